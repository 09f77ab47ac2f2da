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
local intervals = require "intervals"

local floor = math.floor

sharkstat.tap(__FILE__, function(run)
  local most = math.max(2, run.parameters.intervals)
  local spans = intervals.new()
  local interval_of = spans.of
  local packets, bytes, count = {}, {}, 0

  -- Makes the intervals longer, so that there is room for one more.
  local function grow()
    local factor = spans.grow()
    local old_packets, old_bytes = packets, bytes
    packets, bytes, count = {}, {}, 0
    for at, number in pairs(old_packets) do
      local to = floor(at / factor)
      if not packets[to] then count, packets[to], bytes[to] = count + 1, 0, 0 end
      packets[to], bytes[to] = packets[to] + number, bytes[to] + old_bytes[at]
    end
  end

  -- Most packets are in the interval of the one before: its number, and when it begins and ends.
  local at, low, high = nil, 0, 0

  run:listen("frame", function(pinfo, _, _, _, size, time)
    if type(time) == "number" and time >= low and time < high then
      packets[at], bytes[at] = packets[at] + 1, bytes[at] + size
      return
    end
    at = interval_of(pinfo, time)
    if not packets[at] then
      while count >= most do
        grow()
        at = interval_of(pinfo, time)
      end
      if not packets[at] then count, packets[at], bytes[at] = count + 1, 0, 0 end
    end
    packets[at], bytes[at] = packets[at] + 1, bytes[at] + size
    low, high = spans.bounds(at)
  end)

  return function()
    for at, number in pairs(packets) do run:row { spans.start(at), number, bytes[at], spans.duration() } end
  end
end)
