-- name: timeline
-- title: Traffic over time
-- description: How much traffic is there over time? Packets and bytes per interval, aligned to UTC.
--     The length of the intervals adapts to the capture: it is the shortest of 1 ms, 2 ms, 10 ms, 20 ms, 100 ms, 200 ms,
--     1 s, 2 s, 10 s, 20 s, 1 min, 2 min, 10 min, 20 min, 1 h, 2 h, 6 h, 12 h, 1 day, 2 days, 4 days, ... that gives at
--     most `intervals` intervals. Intervals without packets have no row.
-- parameter: intervals integer 500 maximum number of intervals
-- column: start time key
-- column: packets integer sum packets
-- column: bytes integer sum bytes
-- column: rate number bytes/length bytes per second
-- column: length duration max seconds hidden; length of the interval
-- section: 100 bar=bytes
-- sort: start
-- layer: transport
-- order: any

package.path = (__DIR__ or debug.getinfo(1, "S").source:match("@(.*[/\\])")) .. "?.lua;" .. package.path
local sharkstat = require "sharkstat"
local exact = require "sharkstat_exact"

local moment = sharkstat.moment
local floor = math.floor

-- Each is a multiple of the one before it. In milliseconds; then days by twos.
local LENGTHS = {
  1, 2, 10, 20, 100, 200, 1e3, 2e3, 10e3, 20e3, 60e3, 120e3, 600e3, 1200e3, 3600e3, 7200e3, 21600e3, 43200e3, 86400e3,
}

local MILLISECOND = 1e6

sharkstat.tap(__FILE__, function(run)
  local most = math.max(2, run.parameters.intervals)
  local step, length = 1, LENGTHS[1]
  local packets, bytes, count = {}, {}, 0
  local base, rest  -- when the capture began, since 1970: milliseconds, and nanoseconds beyond them
  local since_1970 = false

  local function begin(pinfo, time)
    local since = sharkstat.hosted and sharkstat.epoch(pinfo)
    base, rest = 0, 0
    if not since then return end
    local milliseconds, nanoseconds = exact.divided(exact.elapsed(time, since), MILLISECOND)
    -- What a damaged file says may be further from 1970 than a double tells.
    if type(milliseconds) == "number" then base, rest, since_1970 = milliseconds, nanoseconds, true end
  end

  local function interval_of(time)
    local ms
    if type(time) == "number" then
      ms = floor((rest + time) / MILLISECOND)
    else
      ms = exact.divided(exact.plus(time, rest), MILLISECOND)
    end
    return floor((base + ms) / length)
  end

  -- Makes the intervals longer until there is room for one more.
  local function coarsen()
    step = step + 1
    local longer = LENGTHS[step] or length * 2
    local factor = longer / length
    local old_packets, old_bytes = packets, bytes
    packets, bytes, count, length = {}, {}, 0, longer
    for at, number in pairs(old_packets) do
      local to = floor(at / factor)
      if not packets[to] then count, packets[to], bytes[to] = count + 1, 0, 0 end
      packets[to], bytes[to] = packets[to] + number, bytes[to] + old_bytes[at]
    end
  end

  run:listen("frame", function(pinfo)
    local _, size, time = moment(pinfo)
    if not base then begin(pinfo, time) end
    local at = interval_of(time)
    if not packets[at] then
      while count >= most do
        coarsen()
        at = interval_of(time)
      end
      if not packets[at] then count, packets[at], bytes[at] = count + 1, 0, 0 end
    end
    packets[at], bytes[at] = packets[at] + 1, bytes[at] + size
  end)

  return function()
    local mark = since_1970 and "@" or ""  -- before what is since 1970
    for at, number in pairs(packets) do
      run:row { ("%s%.0f000000"):format(mark, at * length), number, bytes[at], length * MILLISECOND }
    end
  end
end)
