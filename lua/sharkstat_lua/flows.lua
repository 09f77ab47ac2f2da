-- Flows: to which connection a packet belongs, so that sharkstat can find the process behind it (--process).
--
-- A flow is a connection of TCP or UDP as tshark tells them apart, and has one number. Only where flows are `wanted` does a
-- tap keep its rows apart by them (run:row { ..., flow = NUMBER }); sharkstat joins them with the sockets of this host, and
-- then adds up the rows of each process.

local sharkstat = require "sharkstat"

local flows = { wanted = false }

local TCP, UDP = 2, 3  -- pinfo.port_type

-- The number of a flow; nil where none is wanted, and for other kinds than tcp and udp.
function flows.number(kind, stream)
  if not flows.wanted or not stream then return nil end
  if kind == "tcp" then return 2 * stream elseif kind == "udp" then return 2 * stream + 1 end
end

local tcp_streams, udp_streams, quotes
local function last_of(field)
  local first, second = field()
  if second then first = select(-1, field()) end
  return first and first.value
end

local function flow_of(pinfo)
  local tcp, udp = last_of(tcp_streams), last_of(udp_streams)
  if not (tcp or udp) then return nil end
  for _, quoted in ipairs(quotes) do
    if quoted() then return nil end  -- an error belongs to nobody, and quotes somebody's headers
  end
  if tcp and udp then  -- one in the other: the packet's own ports are the innermost
    local kind = pinfo.port_type
    if kind == UDP then tcp = nil elseif kind == TCP then udp = nil end
  end
  return flows.number(tcp and "tcp" or "udp", tcp or udp)
end

-- The number of the flow of the packet at hand, which is found once, whoever asks.
local current, found
function flows.of(pinfo)
  if not flows.wanted then return nil end
  local number = pinfo.number
  if number ~= current then current, found = number, flow_of(pinfo) end
  return found
end

local known = {}

-- Called for a hosted run before there are packets: notes the ends and times of all flows.
function flows.want()
  flows.wanted = true
  tcp_streams, udp_streams = sharkstat.field "tcp.stream", sharkstat.field "udp.stream"
  quotes = { sharkstat.field "icmp", sharkstat.field "icmpv6" }
  local reader = sharkstat.new_run({ columns = {} }, "", nil)
  sharkstat.share("frame", sharkstat.all_of(sharkstat.display_filter), function(pinfo)
    local number = flows.of(pinfo)
    if not number then return end
    local time = sharkstat.relative_ns(pinfo)
    local flow = known[number]
    if not flow then
      known[number] = {
        reader:address(pinfo.src), pinfo.src_port, reader:address(pinfo.dst), pinfo.dst_port, time, time,
      }
      return
    end
    if time < flow[5] then flow[5] = time end
    if time > flow[6] then flow[6] = time end
  end)
end

-- Calls say(number, address, port, address, port, first, last) for each flow: the sender of its first packet comes first.
function flows.each(say)
  for number, flow in pairs(known) do say(number, table.unpack(flow)) end
end

return flows
