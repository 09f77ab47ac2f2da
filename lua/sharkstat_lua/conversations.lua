-- Conversations: who talked with whom, both ways, as tshark's -z conv,TYPE counts them, with exact
-- bytes and times. By itself: tshark -q -X lua_script:conversations.lua -z sharkstat,conv,tcp -r FILE
--
-- A is the sender of the first packet. TCP and UDP conversations are told apart by tshark's stream
-- number, so a reused port is a conversation of its own. Bytes are frame lengths on the wire.

if __DIR__ then package.path = __DIR__ .. "?.lua;" .. package.path end
local sharkstat = require "sharkstat"

local relative_ns = sharkstat.relative_ns

-- What a conversation holds, by position: a table with names is slower to fill, once a packet.
local ADDRESS_A, PORT_A, ADDRESS_B, PORT_B = 1, 2, 3, 4
local PACKETS_AB, BYTES_AB, PACKETS_BA, BYTES_BA, FIRST, LAST, STREAM = 5, 6, 7, 8, 9, 10, 11

local function count(conversation, forward, length, time)
  if forward then
    conversation[PACKETS_AB] = conversation[PACKETS_AB] + 1
    conversation[BYTES_AB] = conversation[BYTES_AB] + length
  else
    conversation[PACKETS_BA] = conversation[PACKETS_BA] + 1
    conversation[BYTES_BA] = conversation[BYTES_BA] + length
  end
  if time > conversation[LAST] then
    conversation[LAST] = time
  elseif time < conversation[FIRST] then
    conversation[FIRST] = time
  end
end

-- Streams: the stream number is the key, so addresses become text once a conversation.
local function stream_counter(run, all, tap, stream_key, source_key, destination_key)
  local streams = {}
  run:listen(tap, function(pinfo, _, info)
    local stream = info[stream_key]
    local source_port = info[source_key]
    local conversation = streams[stream]
    local length, time = pinfo.len, relative_ns(pinfo)
    if not conversation then
      conversation = {
        run:address(info.ip_src), source_port, run:address(info.ip_dst), info[destination_key],
        1, length, 0, 0, time, time, stream,
      }
      streams[stream] = conversation
      all[#all + 1] = conversation
      return
    end
    local forward = source_port == conversation[PORT_A]
    if forward and source_port == conversation[PORT_B] then
      forward = run:address(info.ip_src) == conversation[ADDRESS_A]
    end
    count(conversation, forward, length, time)
  end)
end

-- Pairs of addresses: `ends(info, pinfo)` gives the source and destination of the header announced.
local function pair_counter(run, all, tap, ends)
  local pairs_seen = {}
  run:listen(tap, function(pinfo, _, info)
    local source, destination = ends(info, pinfo)
    if tap == "wlan" and source == "NONE" and destination == "NONE" then return end  -- tshark leaves them out
    local length, time = pinfo.len, relative_ns(pinfo)
    local from = pairs_seen[source]
    if not from then
      from = {}
      pairs_seen[source] = from
    end
    local conversation = from[destination]
    if conversation then
      return count(conversation, conversation[ADDRESS_A] == source, length, time)
    end
    conversation = { source, nil, destination, nil, 1, length, 0, 0, time, time, nil }
    from[destination] = conversation
    local back = pairs_seen[destination]
    if not back then
      back = {}
      pairs_seen[destination] = back
    end
    back[source] = conversation
    all[#all + 1] = conversation
  end)
end

-- Pairs of addresses with ports, of a protocol whose tap tells Lua nothing.
local function port_counter(run, all, tap)
  local seen, ends = {}, run:ports_of(tap)
  run:listen(tap, function(pinfo)
    local source, source_port, destination, destination_port, stream = ends(pinfo)
    local length, time = pinfo.len, relative_ns(pinfo)
    local from, to = source .. " " .. source_port, destination .. " " .. destination_port
    local conversation = seen[from .. " " .. to .. " " .. stream]
    if conversation then
      return count(conversation, conversation[ADDRESS_A] == source and conversation[PORT_A] == source_port, length, time)
    end
    conversation = { source, source_port, destination, destination_port, 1, length, 0, 0, time, time, stream }
    seen[from .. " " .. to .. " " .. stream] = conversation
    seen[to .. " " .. from .. " " .. stream] = conversation
    all[#all + 1] = conversation
  end)
end

local PORTS = {
  { "address_a", "address" }, { "port_a", "integer" }, { "address_b", "address" }, { "port_b", "integer" },
}
local ADDRESSES = { { "address_a", "address" }, { "address_b", "address" } }
local MEASURES = {
  { "packets_a_to_b", "integer", unit = "packets" }, { "bytes_a_to_b", "integer", unit = "bytes" },
  { "packets_b_to_a", "integer", unit = "packets" }, { "bytes_b_to_a", "integer", unit = "bytes" },
  { "start", "time" }, { "stop", "time" },
}

local function joined(...)
  local result = {}
  for _, list in ipairs { ... } do
    for _, item in ipairs(list) do result[#result + 1] = item end
  end
  return result
end

local function register(kind, title, counter, with_ports, with_stream)
  sharkstat.register {
    name = "conv," .. kind,
    z_name = "sharkstat,conv," .. kind,
    title = title .. " conversations",
    columns = joined(with_ports and PORTS or ADDRESSES, MEASURES, with_stream and { { "stream", "integer" } } or {}),
    start = function(run)
      run.filter = run.arguments
      local all = {}
      counter(run, all)
      return function()
        for _, c in ipairs(all) do
          if with_ports then
            run:row {
              c[ADDRESS_A], c[PORT_A], c[ADDRESS_B], c[PORT_B],
              c[PACKETS_AB], c[BYTES_AB], c[PACKETS_BA], c[BYTES_BA], c[FIRST], c[LAST], with_stream and c[STREAM] or nil,
            }
          else
            run:row {
              c[ADDRESS_A], c[ADDRESS_B],
              c[PACKETS_AB], c[BYTES_AB], c[PACKETS_BA], c[BYTES_BA], c[FIRST], c[LAST],
            }
          end
        end
      end
    end,
  }
end

register("tcp", "TCP", function(run, all)
  stream_counter(run, all, "tcp", "th_stream", "th_sport", "th_dport")
end, true, true)
register("udp", "UDP", function(run, all)
  stream_counter(run, all, "udp", "uh_stream", "uh_sport", "uh_dport")
end, true, true)
register("sctp", "SCTP", function(run, all) port_counter(run, all, "sctp") end, true, false)
register("dccp", "DCCP", function(run, all) port_counter(run, all, "dccp") end, true, true)
for kind, title in pairs {
  eth = "Ethernet", ip = "IPv4", ipv6 = "IPv6", ipx = "IPX", usb = "USB", bluetooth = "Bluetooth", fddi = "FDDI",
  sll = "Linux cooked", tr = "Token Ring", wlan = "IEEE 802.11",
} do
  register(kind, title, function(run, all) pair_counter(run, all, kind, run:ends_of(kind)) end, false)
end
