-- What the host watches in a shard, a part of a capture's packets, so that what was counted in several can be put together:
-- how much later its times are, the packets that tshark's streams begin with, and signs that packets of other shards have
-- something to do with its own.
--
--   Y stream PROTOCOL NUMBER PACKET SINCE
--                                       a stream, and the packet of the shard in which it began, or before which, but after
--                                       SINCE
--   Y layers COUNT                      how many IP headers the packets of a shard of plain ones have
--   Y pair A B                          two hosts of the rest
--   Y announced PROTOCOL                a protocol that announces conversations of other hosts

local sharkstat = require "sharkstat"

local floor = math.floor

local shards = {}

local ANNOUNCERS = {
  "sip", "sdp", "rtsp", "mgcp", "h225", "h245", "h245dg", "skinny", "t38", "unistim", "snmp", "actrace", "megaco",
}

local function watch_announcers(tell)
  local announced = {}
  for _, name in ipairs(ANNOUNCERS) do
    pcall(sharkstat.share, name, nil, function() announced[name] = true end)
  end
  return function()
    for name in pairs(announced) do tell("announced", name) end
  end
end

-- In a shard of plain packets, each has one IP header.
local function watch_plain(tell)
  local layers = 0
  local function count() layers = layers + 1 end
  sharkstat.share("ip", nil, count)
  sharkstat.share("ipv6", nil, count)
  return function() tell("layers", layers) end
end

-- The rest may hold packets of any hosts: in tunnels, and below what is not looked at from outside.
local function watch_rest(tell)
  local known = {}
  local function note(a, b) known[tostring(a) .. " " .. tostring(b)] = true end
  sharkstat.share("ip", nil, function(_, _, info) note(info.ip_src, info.ip_dst) end)
  local sources, destinations = sharkstat.field "ipv6.src", sharkstat.field "ipv6.dst"
  sharkstat.share("ipv6", nil, function()
    local to = { destinations() }
    for at, source in ipairs { sources() } do
      if to[at] then note(source.value, to[at].value) end
    end
  end)
  return function()
    for pair in pairs(known) do tell("pair", pair:match("^(%S+) (%S+)$")) end
  end
end

-- The packet in which each stream began. In plain packets tshark's taps tell of all; in others, the fields.
local KEYS = { tcp = "th_stream", udp = "uh_stream" }
local function watch_streams(plain, protocol, tell)
  local newest, first, since, at = -1, {}, {}, 0
  local function note(stream, number)
    for missing = newest + 1, stream do
      first[missing], since[missing] = number, missing == stream and number or at
    end
    if stream > newest then newest, at = stream, number end
  end
  local reused = protocol == "tcp" and sharkstat.field "tcp.analysis.reused_ports"
  if reused then
    -- Where a port is used again tshark may tell the old stream's number, though a new one begins. A SYN begins it: a
    -- SYN and ACK with another number is marked as well, and begins none.
    sharkstat.share("tcp", nil, function(pinfo, _, info)
      local flags = info.th_flags
      if floor(flags / 2) % 2 == 1 and floor(flags / 16) % 2 == 0 and info.th_stream <= newest and first[info.th_stream] ~= pinfo.number
        and reused() then
        note(newest + 1, pinfo.number)
      end
    end)
  end
  if plain then
    local key = KEYS[protocol]
    sharkstat.share(protocol, nil, function(pinfo, _, info)
      local stream = info[key]
      if stream > newest then note(stream, pinfo.number) end
    end)
  else
    local field = sharkstat.field(protocol .. ".stream")
    sharkstat.share("frame", nil, function(pinfo)
      for _, found in ipairs { field() } do
        if found.value > newest then note(found.value, pinfo.number) end
      end
    end)
  end
  return function()
    for stream = 0, newest do tell("stream", protocol, stream, first[stream], since[stream]) end
  end
end

-- tell(word...) sends a record; what this gives is called at the end.
function shards.watch(plain, protocols, tell)
  local ends = { plain and watch_plain(tell) or watch_rest(tell), watch_announcers(tell) }
  for _, protocol in ipairs(protocols) do ends[#ends + 1] = watch_streams(plain, protocol, tell) end
  return function()
    for _, finish in ipairs(ends) do finish() end
  end
end

return shards
