-- name: processes
-- title: Processes
-- description: Which programs of this host cause the traffic? For live capture with `--process` alone. A row has all
--     connections of one process. What belongs to no process that is known for certain is in the row `?`, and what is sent
--     between other hosts in the row `(other hosts)`. All rows add up to the packets and bytes that were captured.
-- arguments: filter
-- order: any
-- column: connections integer sum title=Connec-|tions; of TCP and UDP
-- column: packets integer sum packets
-- column: bytes integer sum bytes share
-- column: first time min hidden; the first packet
-- column: last time max hidden; the last packet
-- section: 150 rows=6 bar=bytes columns=bytes,connections=conns,packets
-- sort: bytes descending, packets descending
-- field: tcp.stream
-- field: udp.stream
-- layer: transport

package.path = (__DIR__ or debug.getinfo(1, "S").source:match("@(.*[/\\])")) .. "?.lua;" .. package.path
local sharkstat = require "sharkstat"
local flows = require "flows"

local moment = sharkstat.moment

sharkstat.tap(__FILE__, function(run)
  local parts, order = {}, {}
  run:listen("frame", function(pinfo)
    local _, length, time = moment(pinfo)
    local flow = flows.of(pinfo)
    local part = parts[flow or "none"]
    if not part then
      part = { flow = flow, packets = 0, bytes = 0, first = time, last = time }
      parts[flow or "none"], order[#order + 1] = part, part
    end
    part.packets, part.bytes = part.packets + 1, part.bytes + length
    if time < part.first then part.first = time end
    if time > part.last then part.last = time end
  end)
  return function()
    for _, part in ipairs(order) do
      run:row { part.flow and 1 or 0, part.packets, part.bytes, part.first, part.last, flow = part.flow }
    end
  end
end)
