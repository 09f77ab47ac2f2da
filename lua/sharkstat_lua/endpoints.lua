-- Endpoints: every address, and for TCP and UDP every port, with what it sent and received, as
-- tshark's -z endpoints,TYPE counts them.
-- By itself: tshark -q -X lua_script:endpoints.lua -z sharkstat,endpoints,ip -r FILE

if __DIR__ then package.path = __DIR__ .. "?.lua;" .. package.path end
local sharkstat = require "sharkstat"

-- What an endpoint holds, by position: a table with names is slower to fill, once a packet.
local ADDRESS, PORT, TX_PACKETS, TX_BYTES, RX_PACKETS, RX_BYTES = 1, 2, 3, 4, 5, 6

local function sent(endpoint, length)
  endpoint[TX_PACKETS] = endpoint[TX_PACKETS] + 1
  endpoint[TX_BYTES] = endpoint[TX_BYTES] + length
end

local function received(endpoint, length)
  endpoint[RX_PACKETS] = endpoint[RX_PACKETS] + 1
  endpoint[RX_BYTES] = endpoint[RX_BYTES] + length
end

local function finder(all)
  local seen = {}
  return function(address, port)
    local ports = seen[address]
    if not ports then
      ports = {}
      seen[address] = ports
    end
    local endpoint = ports[port or 0]
    if not endpoint then
      endpoint = { address, port, 0, 0, 0, 0 }
      ports[port or 0] = endpoint
      all[#all + 1] = endpoint
    end
    return endpoint
  end
end

-- A stream's two endpoints are found once: its packets are told apart by their source port.
local function stream_counter(run, all, tap, stream_key, source_key, destination_key)
  local endpoint_of = finder(all)
  local streams = {}
  run:listen(tap, function(pinfo, _, info)
    local stream, source_port, length = info[stream_key], info[source_key], pinfo.len
    local ends = streams[stream]
    if not ends then
      ends = {
        endpoint_of(run:address(info.ip_src), source_port),
        endpoint_of(run:address(info.ip_dst), info[destination_key]),
      }
      streams[stream] = ends
    end
    local from, to = ends[1], ends[2]
    if source_port ~= from[PORT] then
      from, to = to, from
    elseif source_port == to[PORT] and run:address(info.ip_src) ~= from[ADDRESS] then
      from, to = to, from
    end
    sent(from, length)
    received(to, length)
  end)
end

local function address_counter(run, all, tap, ends)
  local endpoint_of = finder(all)
  run:listen(tap, function(pinfo, _, info)
    local length = pinfo.len
    local source, destination = ends(info, pinfo)
    if tap == "wlan" and source == "NONE" and destination == "NONE" then return end  -- tshark leaves them out
    sent(endpoint_of(source), length)
    if tap ~= "sll" then received(endpoint_of(destination), length) end  -- its header has but a sender
  end)
end

-- Of a protocol whose tap tells Lua nothing.
local function port_counter(run, all, tap)
  local endpoint_of, ends = finder(all), run:ports_of(tap)
  run:listen(tap, function(pinfo)
    local length = pinfo.len
    local source, source_port, destination, destination_port = ends(pinfo)
    sent(endpoint_of(source, source_port), length)
    received(endpoint_of(destination, destination_port), length)
  end)
end

local function register(kind, title, counter, with_ports)
  local columns = { { "address", "address" } }
  if with_ports then columns[2] = { "port", "integer" } end
  for _, name in ipairs { "tx_packets", "tx_bytes", "rx_packets", "rx_bytes" } do
    columns[#columns + 1] = { name, "integer", unit = name:match("%a+$") }
  end
  sharkstat.register {
    name = "endpoints," .. kind,
    z_name = "sharkstat,endpoints," .. kind,
    title = title .. " endpoints",
    columns = columns,
    start = function(run)
      run.filter = run.arguments
      local all = {}
      counter(run, all)
      return function()
        for _, e in ipairs(all) do
          if with_ports then
            run:row { e[ADDRESS], e[PORT], e[TX_PACKETS], e[TX_BYTES], e[RX_PACKETS], e[RX_BYTES] }
          else
            run:row { e[ADDRESS], e[TX_PACKETS], e[TX_BYTES], e[RX_PACKETS], e[RX_BYTES] }
          end
        end
      end
    end,
  }
end

register("tcp", "TCP", function(run, all)
  stream_counter(run, all, "tcp", "th_stream", "th_sport", "th_dport")
end, true)
register("udp", "UDP", function(run, all)
  stream_counter(run, all, "udp", "uh_stream", "uh_sport", "uh_dport")
end, true)
register("sctp", "SCTP", function(run, all) port_counter(run, all, "sctp") end, true)
register("dccp", "DCCP", function(run, all) port_counter(run, all, "dccp") end, true)
for kind, title in pairs {
  eth = "Ethernet", ip = "IPv4", ipv6 = "IPv6", ipx = "IPX", usb = "USB", bluetooth = "Bluetooth", fddi = "FDDI",
  sll = "Linux cooked", tr = "Token Ring", wlan = "IEEE 802.11",
} do
  register(kind, title, function(run, all) address_counter(run, all, kind, run:ends_of(kind)) end, false)
end
