-- Virtual networks (VLANs, VXLAN, MPLS labels, tunnels with a number ...) may use the same addresses and ports as others.
-- tshark gives their connections one stream number. Here they are told apart.
--
--     local networks = require("networks").of(run, "tcp", "what that does to the run's numbers")
--     networks:listen("tcp", function(pinfo, tvb, info, virtual)
--       local key = networks:key(info.th_stream, pinfo, virtual)
--     end)
--
-- A mirror port may tag what it sends and not what it receives, and a connection may take one VLAN there and another one
-- back. So the two directions of a connection may be in different networks: a connection is another one only where the
-- same sender is seen in a second network. To be in none counts as one.
--
-- Packets outside of all virtual networks cost nothing until one inside comes. Where others came before it, what they were
-- has to be known: the host reads the capture again (networks.missed), with networks.all from the start.

local sharkstat = require "sharkstat"
local fields = require "sharkstat_fields"
local layers = require "layers"
local sharing = require "sharkstat_sharing"

local moment = sharkstat.moment

local networks = {
  all = false,              -- whether packets outside of all virtual networks are looked at
  missed = function() end,  -- called where they should have been
  APART = "they are told apart, but neither is surely known what they carry nor what was sent again",
}
local Networks = {}
Networks.__index = Networks

-- What names a network. What is frequent has an extractor of its own; the rest is found in the tree of the packets that
-- have it.
local FREQUENT = { "vlan.id", "vxlan.vni", "geneve.vni", "gre.key" }
local RARE = {
  "mpls.label", "pppoe.session_id", "gtp.teid", "l2tp.tunnel", "l2tp.session", "l2tp.sid", "nsh.spi", "erspan.vlan",
  "erspan.spanid", "ieee8021ah.isid", "ieee8021ad.id", "ieee8021ad.svid", "ieee8021ad.cvid", "lisp-data.iid", "isl.vlan_id",
  "stt.context_id",
}
-- Values that name none: a VLAN tag with a priority alone, and labels with a meaning of their own (RFC 3032 and others).
local NO_VLAN = { [0] = true }
local NO_NETWORK = {
  ["vlan.id"] = NO_VLAN, ["erspan.vlan"] = NO_VLAN, ["ieee8021ad.id"] = NO_VLAN,
  ["mpls.label"] = { [0] = true, [1] = true, [2] = true, [3] = true, [7] = true, [13] = true, [14] = true, [15] = true },
}

local IN_FREQUENT = "(" .. table.concat(FREQUENT, " || ") .. ")"
local IN_RARE = "(" .. table.concat(RARE, " || ") .. ")"
local VIRTUAL = "(" .. IN_FREQUENT .. " || " .. IN_RARE .. ")"
local MANY = 2 ^ 31 -- there are fewer streams
local NONE = ""

-- tshark puts into a packet's tree what a filter names. Here no filter picks the packets that have it, but their protocols.
local primed
local function prime()
  local wanted = {}
  for _, name in ipairs(RARE) do wanted[name] = true end
  primed = primed or fields.prime(wanted)
end

-- Called with each packet in a virtual network.
local function look_at_all(pinfo)
  if networks.all then return end
  networks.all = true
  sharing.forget()
  if pinfo.number > 1 then networks.missed() end
  for _, listen in ipairs(networks.waiting or {}) do listen() end
end

local function remark(run, seen, means, lacks)
  run:remark(function()
    if seen.run.failure then error(seen.run.failure.message, 0) end
    if seen.mixtures == 0 then return nil end
    local name = seen.protocol:upper() .. (seen.mixtures == 1 and " stream" or " streams")
    return ("connections of several VLANs or virtual networks (or of one and of none) have the same addresses and ports, "
      .. "and tshark takes them for one (%.0f %s): %s"):format(seen.mixtures, name, means), lacks
  end)
end

-- For a run that counts by streams of `protocol` ("tcp", "udp", "dccp"). Where tshark takes several connections for one, the
-- run's remark says so, and what that `means` for its numbers; without it nothing is said. `lacks` says
-- that something is counted wrong or not at all; `mixed` is true for the streams that are several. `read` gives what reads
-- a field, where that is not sharkstat.field.
function networks.of(run, protocol, means, lacks, read)
  local self = setmetatable({
    run = run, protocol = protocol, headers = (read or sharkstat.field)(protocol .. ".stream"),
    ports = (read or sharkstat.field)(protocol .. ".srcport"),
    tags = {}, streams = {}, latest = {}, mixed = {}, mixtures = 0, others = 0,
  }, Networks)
  for at, name in ipairs(FREQUENT) do self.tags[at] = { name = name, read = (read or sharkstat.field)(name) } end
  for _, name in ipairs(RARE) do
    self.tags[#self.tags + 1] = { name = name, read = (read or sharkstat.hosted and fields.reader or sharkstat.field)(name) }
  end
  -- An extractor costs every packet of the capture, but where there is one of the streams, this one costs less than filters.
  if sharkstat.hosted and not read then
    self.path_of = layers.reader()
    prime()
  end
  run.knows_networks = true
  run:listen("frame", function(pinfo)
    if self.path_of and self.path_of((moment(pinfo))).virtual ~= "rare" then
      local tagged = false
      for at = 1, #FREQUENT do tagged = tagged or self.tags[at].read() end
      if not tagged then return end  -- GRE without a key
    end
    look_at_all(pinfo)
  end, VIRTUAL, function(path) return not networks.all and path.virtual end)
  if means then remark(run, self, means, lacks) end
  return self
end

-- Listens for the run as run:listen does: packet(pinfo, tvb, info, virtual, length, ns) is told whether the packet is in a
-- virtual network. A filter with so many fields costs every packet much more than its protocols do, which are read once,
-- whoever asks.
function Networks:listen(tap, packet, filter, wants)
  if sharkstat.hosted then
    local path_of = self.path_of
    return self.run:listen(tap, function(pinfo, tvb, info, number, length, time, path)
      packet(pinfo, tvb, info, (path or path_of(number)).virtual, length, time)
    end, filter, wants)
  end
  filter = filter and "(" .. filter .. ") && " or ""
  local function listen(virtual, also)
    self.run:listen(tap, function(pinfo, tvb, info, _, ...) packet(pinfo, tvb, info, virtual, ...) end, filter .. also)
  end
  listen(false, "!" .. VIRTUAL)
  listen(true, IN_FREQUENT .. " && !" .. IN_RARE)
  listen("rare", IN_RARE)
end

local function last_of(field)
  local first, second = field()
  if second then
    for _, found in ipairs { field() } do first = found end
  end
  return first
end

-- The name of the network that a header is in, from the tags before it; NONE where there are none. The header that
-- carries a tunnel is not in the tunnel's network.
local function network_of(tags, header, virtual)
  local name = NONE
  for at = 1, virtual == "rare" and #tags or #FREQUENT do
    local tag = tags[at]
    for _, found in ipairs { tag.read() } do
      if found.offset < header.offset then
        local value, none = found.value, NO_NETWORK[tag.name]
        if not (none and none[value]) then name = name .. " " .. at .. ":" .. tostring(value) end
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

-- What tells the connection of a stream's packet from others: the stream's number, or one beyond all streams.
local function key_of(self, stream, network, port, pinfo)
  local found = self.streams[stream]
  if not found then return begin(self, stream, network, port, pinfo) end
  local forward = port == found.port
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

-- The same for the packet at hand, whose innermost stream it is. `virtual` says whether it is in a virtual network: true,
-- false, or "rare", as `listen` and layers.lua say it.
function Networks:key(stream, pinfo, virtual)
  if not virtual and not networks.all then return stream end
  if virtual == "rare" and sharkstat.hosted then fields.packet(pinfo.number) end
  local header, port = last_of(self.headers), last_of(self.ports)
  if not (header and port) then return stream end
  return key_of(self, stream, virtual and network_of(self.tags, header, virtual) or NONE, port.value, pinfo)
end

-- What the tcp and udp taps say of a header.
local ANNOUNCED = { tcp = { "th_stream", "th_sport" }, udp = { "uh_stream", "uh_sport" } }

-- A watcher, which notes every stream of the run's packets, or those of a port.
local function watch_with_extractors(run, protocol, port)
  local watched = networks.of(run, protocol)
  local targets = port and sharkstat.field(protocol .. ".dstport")
  local function is_of_port()
    for _, field in ipairs { watched.ports, targets } do
      for _, found in ipairs { field() } do
        if found.value == port then return true end
      end
    end
    return false
  end
  run:listen("frame", function(pinfo)
    if port and not is_of_port() then return end
    local virtual = watched.path_of((moment(pinfo))).virtual
    local header, second = watched.headers()
    if not header then return end
    if not second then return watched:key(header.value, pinfo, virtual) end
    if virtual == "rare" then fields.packet(pinfo.number) end
    local from = { watched.ports() }
    for at, one in ipairs { watched.headers() } do
      if not from[at] then break end
      key_of(watched, one.value, virtual and network_of(watched.tags, one, virtual) or NONE, from[at].value, pinfo)
    end
  end, port and ("%s.port == %d"):format(protocol, port), function(path)
    return not path.quoting and (path.virtual or networks.all)
  end)
  return watched
end

-- The same without extractors. A filter costs less, and what it names is in the tree of the packets that it takes: there it is
-- found without an extractor.
local function watch_with_filters(run, protocol, port)
  local watched = networks.of(run, protocol, nil, nil, sharkstat.hosted and fields.reader or sharkstat.field)
  local streams, ports = watched.headers, watched.ports
  local only = port and (" && %s.port == %d"):format(protocol, port) or ""
  local named = ("%s.stream && %s.srcport && !icmp && !icmpv6"):format(protocol, protocol) .. only
  local function packet(virtual)
    return function(pinfo)
      fields.packet(pinfo.number)
      local from = { ports() }
      for at, header in ipairs { streams() } do
        if not from[at] then break end
        local network = virtual and network_of(watched.tags, header, "rare") or NONE
        key_of(watched, header.value, network, from[at].value, pinfo)
      end
    end
  end
  run:listen("frame", packet(true), VIRTUAL .. " && " .. named)
  local function listen_to_others()
    local announced = ANNOUNCED[protocol]
    if not announced then return run:listen("frame", packet(false), "!" .. VIRTUAL .. " && " .. named) end
    local stream, port = announced[1], announced[2]
    run:listen(protocol, function(pinfo, _, info)
      if networks.all then key_of(watched, info[stream], NONE, info[port], pinfo) end
    end, "!" .. VIRTUAL .. only)
  end
  -- Where headers may be cut a listener has fields of its own, which must be there before the first packet.
  if networks.all or not sharkstat.hosted or sharkstat.cut then
    listen_to_others()
  else
    networks.waiting = networks.waiting or {}
    networks.waiting[#networks.waiting + 1] = listen_to_others
  end
  return watched
end

local function new_watcher(run, protocol, port)
  local extracted = sharkstat.hosted
  for _, name in ipairs { "frame.protocols", protocol .. ".stream", protocol .. ".srcport" } do
    extracted = extracted and sharkstat.extracted(name)
  end
  return (extracted and watch_with_extractors or watch_with_filters)(run, protocol, port)
end

-- For a run that does not tell them apart, or is not told of all packets: its remark says what that means, for the
-- packets of a port, or of all. All runs that ask for the same have one watcher, which belongs to none of them.
local watchers = {}
function networks.watch(run, protocol, means, port, lacks)
  local watched
  if sharkstat.hosted then
    local key = ("%s\t%s\t%s"):format(protocol, port or "", run.filter or "")
    if not watchers[key] then
      local own = sharkstat.new_run({ name = "networks", columns = {} }, "", nil)
      own.filter = run.filter
      watchers[key] = new_watcher(own, protocol, port)
    end
    watched = watchers[key]
    run.knows_networks = true
  else
    watched = new_watcher(run, protocol, port)
  end
  remark(run, watched, means, lacks)
end

return networks
