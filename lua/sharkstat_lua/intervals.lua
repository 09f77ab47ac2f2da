-- Intervals of time, aligned to UTC so that captures can be merged: of one length, or of a length that grows with the
-- capture, since nobody knows its duration before it is read.
--
--     local intervals = intervals.new(length)    -- in nanoseconds, whole microseconds; nil: growing, from 1 ms on
--     local at = intervals.of(pinfo, time)       -- the number of the interval of a packet's time (sharkstat.moment)
--     local low, high = intervals.bounds(at)     -- in times of packets: low <= time < high
--     local factor = intervals.grow()            -- makes them longer: the interval `at` is now floor(at / factor)
--     intervals.start(at), intervals.duration()  -- when it begins and how long it is, as a row has them
--
-- In plain tshark nobody knows the absolute time exactly: there the first interval begins with the first packet.

local sharkstat = require "sharkstat"
local exact = require "sharkstat_exact"

local floor = math.floor

-- Each is a multiple of the one before it. In milliseconds; then days by twos.
local LENGTHS = {
  1, 2, 10, 20, 100, 200, 1e3, 2e3, 10e3, 20e3, 60e3, 120e3, 600e3, 1200e3, 3600e3, 7200e3, 21600e3, 43200e3, 86400e3,
}
local MILLISECOND, MICROSECOND = 1e6, 1e3

local intervals = {}

function intervals.new(length)
  local step = 1
  local made = { length = length or LENGTHS[1] * MILLISECOND }
  local origin            -- when times are zero, in nanoseconds since 1970; nil where that is unknown
  local base, rest = nil, 0  -- the number of the interval of that moment, and how far into it that is
  local from, to, current = 0, 0, nil  -- the interval of the last time that was asked for
  local unit = made.length % MILLISECOND == 0 and MILLISECOND or MICROSECOND

  local function place()
    base, rest = 0, 0
    if not origin then return end
    base, rest = exact.divided(origin, made.length)
  end

  local function begin(pinfo, time)
    local since = sharkstat.hosted and sharkstat.epoch(pinfo)
    if since then
      origin = exact.elapsed(time, since)
      -- What a damaged file says may be further from 1970 than a double tells.
      if type(exact.divided(origin, unit)) ~= "number" then origin = nil end
    end
    place()
  end

  function made.of(pinfo, time)
    if not base then begin(pinfo, time) end
    local size = made.length
    if type(time) ~= "number" then return base + exact.divided(exact.plus(time, rest), size) end
    if time >= from and time < to then return current end
    local since = rest + time
    local at = floor(since / size)
    if at * size > since then at = at - 1 end  -- the quotient was rounded up
    from, to, current = at * size - rest, (at + 1) * size - rest, base + at
    return current
  end

  -- When an interval begins and ends, in times of packets.
  function made.bounds(at)
    local low = (at - base) * made.length - rest
    return low, low + made.length
  end

  function made.grow()
    step = step + 1
    local before = made.length
    from, to = 0, 0
    made.length = LENGTHS[step] and LENGTHS[step] * MILLISECOND or before * 2
    place()
    return made.length / before
  end

  function made.start(at)
    local digits = ("%.0f"):format(at * (made.length / unit))
    if digits ~= "0" and digits ~= "-0" then digits = digits .. (unit == MILLISECOND and "000000" or "000") end
    return (origin and "@" or "") .. digits  -- "@" stands before what is since 1970
  end

  -- Where it is more than a double tells, it is days by a power of two.
  function made.duration() return ("%.0f"):format(made.length) end

  return made
end

return intervals
