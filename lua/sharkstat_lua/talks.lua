-- Who sends to whom, for conversations.lua and endpoints.lua: the kinds of ends that there are, and a walk over all
-- packets of a kind that keeps one entry for every two ends.
--
--     talks.listen(run, kind, make, count)
--
-- make(source, source_port, destination, destination_port, stream) is called for the first packet between two ends; it
-- gives an entry, a list that begins with these five (ports and stream are nil where the kind has none). Then
-- count(entry, forward, pinfo) is called for each packet between them, the first too; `forward` says that it goes the
-- way of the first.

local sharkstat = require "sharkstat"

local talks = {}

local SOURCE, SOURCE_PORT, DESTINATION_PORT = 1, 2, 4

-- Each: its name in a request, what people call it, and whether its ends have ports and its conversations a number. TCP
-- and UDP have tshark's stream number, so a port that is used again is another conversation.
talks.KINDS = {
  { name = "tcp", title = "TCP", ports = true, streams = true },
  { name = "udp", title = "UDP", ports = true, streams = true },
  { name = "sctp", title = "SCTP", ports = true },
  { name = "dccp", title = "DCCP", ports = true, streams = true },
  { name = "eth", title = "Ethernet" },
  { name = "ip", title = "IPv4" },
  { name = "ipv6", title = "IPv6" },
  { name = "ipx", title = "IPX" },
  { name = "usb", title = "USB" },
  { name = "bluetooth", title = "Bluetooth" },
  { name = "fddi", title = "FDDI" },
  { name = "sll", title = "Linux cooked" },
  { name = "tr", title = "Token Ring" },
  { name = "wlan", title = "IEEE 802.11" },
}

-- The stream number is the key, so addresses become text once a stream.
local function listen_to_streams(run, tap, keys, make, count)
  local stream_key, source_key, destination_key = table.unpack(keys)
  local entries = {}
  run:listen(tap, function(pinfo, _, info)
    local stream, source_port = info[stream_key], info[source_key]
    local entry = entries[stream]
    if not entry then
      entry = make(run:address(info.ip_src), source_port, run:address(info.ip_dst), info[destination_key], stream)
      entries[stream] = entry
      return count(entry, true, pinfo)
    end
    local forward = source_port == entry[SOURCE_PORT]
    if forward and source_port == entry[DESTINATION_PORT] then forward = run:address(info.ip_src) == entry[SOURCE] end
    count(entry, forward, pinfo)
  end)
end

-- A function that counts a packet between two addresses.
local function address_counter(make, count)
  local entries = {}
  return function(pinfo, source, destination)
    local from = entries[source]
    if not from then
      from = {}
      entries[source] = from
    end
    local entry = from[destination]
    if entry then return count(entry, entry[SOURCE] == source, pinfo) end
    entry = make(source, nil, destination)
    from[destination] = entry
    local back = entries[destination]
    if not back then
      back = {}
      entries[destination] = back
    end
    back[source] = entry
    count(entry, true, pinfo)
  end
end

local function listen_to_addresses(run, tap, make, count)
  local ends, add = run:ends_of(tap), address_counter(make, count)
  run:listen(tap, function(pinfo, _, info)
    local source, destination = ends(info, pinfo)
    if tap == "wlan" and source == "NONE" and destination == "NONE" then return end  -- tshark leaves them out
    add(pinfo, source, destination)
  end)
end

-- tshark announces an IPv6 header when it has dissected what is in it, so of the fragments of a packet but the last. In
-- packets with a fragment all headers are counted from their fields, but for those that an ICMP error quotes.
local function listen_to_ipv6(run, make, count)
  local ends, add = run:ends_of("ipv6"), address_counter(make, count)
  local sources, destinations = sharkstat.field "ipv6.src", sharkstat.field "ipv6.dst"
  local icmp, icmpv6 = sharkstat.field "icmp", sharkstat.field "icmpv6"
  local function own_headers()
    if not icmp() and not icmpv6() then return math.huge end
    local headers = 0
    for _, found in ipairs { all_field_infos() } do
      local name = found.name
      if name == "icmp" or name == "icmpv6" then break end
      if name == "ipv6.src" then headers = headers + 1 end
    end
    return headers
  end
  run:listen("ipv6", function(pinfo) add(pinfo, ends(nil, pinfo)) end, "!ipv6.fraghdr")
  run:listen("frame", function(pinfo)
    local most, to = own_headers(), { destinations() }
    for at, source in ipairs { sources() } do
      if at > most then break end
      add(pinfo, run:address(source.value), run:address(to[at].value))
    end
  end, "ipv6.fraghdr")
end

-- Of protocols whose tap tells Lua nothing.
local function listen_to_ports(run, tap, make, count)
  local entries, ends = {}, run:ports_of(tap)
  run:listen(tap, function(pinfo)
    local source, source_port, destination, destination_port, stream = ends(pinfo)
    local from, to = source .. " " .. source_port, destination .. " " .. destination_port
    local key = from .. " " .. to .. " " .. stream
    local entry = entries[key]
    if entry then return count(entry, entry[SOURCE] == source and entry[SOURCE_PORT] == source_port, pinfo) end
    entry = make(source, source_port, destination, destination_port, stream)
    entries[key], entries[to .. " " .. from .. " " .. stream] = entry, entry
    count(entry, true, pinfo)
  end)
end

function talks.listen(run, kind, make, count)
  if kind.name == "tcp" then
    listen_to_streams(run, "tcp", { "th_stream", "th_sport", "th_dport" }, make, count)
  elseif kind.name == "udp" then
    listen_to_streams(run, "udp", { "uh_stream", "uh_sport", "uh_dport" }, make, count)
  elseif kind.name == "ipv6" then
    listen_to_ipv6(run, make, count)
  elseif kind.ports then
    listen_to_ports(run, kind.name, make, count)
  else
    listen_to_addresses(run, kind.name, make, count)
  end
end

return talks
