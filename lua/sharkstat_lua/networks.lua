-- Virtual networks (VLANs, VXLAN, Geneve, GRE with a key) may use the same addresses and ports as others. tshark gives
-- their connections one stream number. Here they are told apart.
--
--     local networks = require("networks").of(run, "tcp", "what that does to the run's numbers")
--     networks:listen("tcp", function(pinfo, tvb, info, virtual)
--       local key = virtual and networks:key(info.th_stream, pinfo) or info.th_stream
--     end)
--
-- A mirror port may tag what it sends and not what it receives, and a connection may take one VLAN there and another one
-- back. So the two directions of a connection may be in different networks: a connection is another one only where the
-- same sender is seen in a second network. Packets without a tag are not told apart from those with one.

local sharkstat = require "sharkstat"
local fields = require "sharkstat_fields"

local networks = {}
local Networks = {}
Networks.__index = Networks

local TAGS = { "vlan.id", "vxlan.vni", "geneve.vni", "gre.key" }
local VIRTUAL = "(" .. table.concat(TAGS, " || ") .. ")"
local MANY = 2 ^ 31 -- there are fewer streams

-- For a run that counts by streams of `protocol` ("tcp", "udp", "dccp"). Where tshark takes several connections for one, the
-- run's remark says so, and what that `means` for its numbers; without it nothing is said. `mixed` is true for the streams
-- that are several. `read` gives what reads a field, where that is not sharkstat.field.
function networks.of(run, protocol, means, read)
  read = read or sharkstat.field
  local self = setmetatable({
    run = run, headers = read(protocol .. ".stream"), ports = read(protocol .. ".srcport"),
    tags = {}, streams = {}, latest = {}, mixed = {}, mixtures = 0, others = 0,
  }, Networks)
  for _, name in ipairs(TAGS) do self.tags[#self.tags + 1] = read(name) end
  run.knows_networks = true
  run:remark(function()
    if self.mixtures == 0 or not means then return nil end
    local name = protocol:upper() .. (self.mixtures == 1 and " stream" or " streams")
    return ("connections of several VLANs or virtual networks have the same addresses and ports, and tshark takes them for one "
      .. "(%.0f %s): %s"):format(self.mixtures, name, means)
  end)
  return self
end

-- Listens for the run as run:listen does, but twice: `packet` is told whether the packet is in a virtual network.
function Networks:listen(tap, packet, filter)
  filter = filter and "(" .. filter .. ") && " or ""
  self.run:listen(tap, function(pinfo, tvb, info) packet(pinfo, tvb, info, false) end, filter .. "!" .. VIRTUAL)
  self.run:listen(tap, function(pinfo, tvb, info) packet(pinfo, tvb, info, true) end, filter .. VIRTUAL)
end

local function last_of(field)
  local first, second = field()
  if second then
    for _, found in ipairs { field() } do first = found end
  end
  return first
end

-- The name of the network that the innermost header is in, from the tags before it; nil where there are none. The header
-- that carries a tunnel is not in the tunnel's network.
local function network_of(tags, header)
  local name
  for at = 1, #tags do
    for _, found in ipairs { tags[at]() } do
      if found.offset < header.offset then
        local tag = found.value * #tags + at
        name = name and name .. " " .. tag or tag
      end
    end
  end
  return name
end

-- The first packet of a stream: tshark may have had another number for the same ends, since it begins a new one with a SYN.
local function begin(self, stream, network, port, pinfo)
  local from, to = tostring(pinfo.src) .. " " .. pinfo.src_port, tostring(pinfo.dst) .. " " .. pinfo.dst_port
  if to < from then from, to = to, from end
  local ends = from .. " " .. to
  local found = {
    key = stream, first = network, port = port, forward = true, older = self.latest[ends],
    address = pinfo.src_port == pinfo.dst_port and tostring(pinfo.src) or nil,
  }
  self.latest[ends], self.streams[stream] = found, found
  return stream
end

local function mix(self, stream)
  if not self.mixed[stream] then self.mixed[stream], self.mixtures = true, self.mixtures + 1 end
end

local function another_key(self)
  self.others = self.others + 1
  return MANY + self.others
end

-- The key in a network, if an earlier stream of the same ends had a connection there that the first network has no part in.
local function earlier_key(found, network)
  local older = found.older
  while older do
    local own = older.first == network and older or older.others and older.others[network]
    if own then
      local first = older.first == found.first and older or older.others and older.others[found.first]
      return not (first and first.key == own.key) and own.key or nil
    end
    older = older.older
  end
end

-- Whether a sender was seen in another network that counts as the same connection.
local function seen_elsewhere(found, own, way)
  if own ~= found and found[way] then return true end
  for _, other in pairs(found.others or {}) do
    if other ~= own and other.key == found.key and other[way] then return true end
  end
  return false
end

-- A network that the stream did not begin in.
local function own_of(self, stream, found, network, way)
  found.others = found.others or {}
  local own = found.others[network]
  if not own then
    own = { key = earlier_key(found, network) }
    if own.key then
      mix(self, stream)
    else
      own.key = found.key  -- the way back, unless something says otherwise
    end
    found.others[network] = own
  end
  return own
end

-- What tells the connection of the packet's innermost stream from others: the stream's number, or one beyond all streams.
function Networks:key(stream, pinfo)
  local header, port = last_of(self.headers), last_of(self.ports)
  local network = header and port and network_of(self.tags, header)
  if not network then return stream end
  local found = self.streams[stream]
  if not found then return begin(self, stream, network, port.value, pinfo) end
  local forward = port.value == found.port
  if forward and found.address then forward = tostring(pinfo.src) == found.address end
  local way = forward and "forward" or "backward"
  local own = network == found.first and found or own_of(self, stream, found, network, way)
  if not own[way] then
    own[way] = true
    if own.key == found.key and seen_elsewhere(found, own, way) then
      mix(self, stream)
      for _, other in pairs(own == found and found.others or { own }) do
        if other.key == found.key then other.key = another_key(self) end
      end
    end
  end
  return own.key
end

-- For a run that does not tell them apart, or is not told of all packets: its remark says what that means, for the
-- packets that `filter` takes.
--
-- An extractor costs every packet of the capture, virtual or not. A filter costs less, and what it names is in the tree of
-- the packets that it takes: there it is found without an extractor.
function networks.watch(run, protocol, means, filter)
  local watched = networks.of(run, protocol, means, sharkstat.hosted and fields.reader or nil)
  local streams = watched.headers
  local named = ("%s.stream && %s.srcport"):format(protocol, protocol)
  run:listen("frame", function(pinfo)
    fields.packet(pinfo.number)
    local stream = last_of(streams)
    if stream then watched:key(stream.value, pinfo) end
  end, VIRTUAL .. " && " .. named .. (filter and " && " .. filter or "") .. " && !icmp && !icmpv6")
end

return networks
