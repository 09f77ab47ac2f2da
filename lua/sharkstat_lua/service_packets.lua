-- Packets by the service that they belong to: services.lua and traffic.lua count what this walk finds. It joins fragments
-- with the packet that completes their datagram, knows the connection of each packet, and notes what tells its service.
--
--     local walk = service_packets.new(run)
--     function walk:packet(c, path, pinfo, sum, number) ... end  -- a packet of a connection, with the fragments it completes
--     function walk:alone(among, protocol, sum, pinfo) ... end  -- what belongs to no connection, to be added to `among`
--     function walk:met(c, sum) ... end                    -- a connection, before its first packet
--     function walk:full() ... end                         -- there are too many: settle them
--     function walk:waits(fragment, pinfo) ... end         -- a fragment, until its datagram is whole
--     walk:listen(rows)
--
-- A sum has packets, bytes and the first and last time, and of each packet its length and time: of the one at hand, and of
-- the `fragments` that it completes, if any. It is good for one call. Of a fragment without its datagram there is no pinfo
-- any more, but the sum has its `sender`. `c` is a connection of server.lua's book, or what was put in its place when
-- it was settled: that has `settled`, and nothing is noted in it any more.

local sharkstat = require "sharkstat"
local server = require "server"
local layers = require "layers"
local naming = require "service_names"
local networks = require "networks"

-- Connections of which it may still show what they are. Where there are more, all are settled by what is known.
local MOST_CONNECTIONS = 100000
local MOST_FRAGMENTS = 10000

-- Protocols whose messages may name the server.
local NAMING = { http = true, http2 = true, tls = true, quic = true }
-- Protocols that tell which ports others will use.
local SETTING_UP = { sip = true, rtsp = true, ftp = true, mgcp = true, ["h225"] = true, ["h245"] = true }
-- Protocols whose requests traffic.lua tells apart.
local REQUESTS = { http = true, http2 = true, http3 = true, quic = true, grpc = true }
-- Above these nothing was in sight.
local BELOW = { eth = true, ethertype = true, ip = true, ipv6 = true }

local service_packets = {}
local Walk = {}
Walk.__index = Walk

function service_packets.new(run)
  local walk = setmetatable({ run = run, waiting = {}, fragments = {}, held = 0 }, Walk)
  walk.book = server.book(run, MOST_CONNECTIONS, true)
  function walk.book.full()
    walk.lost = walk:lost_to_cuts()
    walk:full()
    for _, c in ipairs(walk.waiting) do c.waits = false end
    walk.waiting, walk.book.room = {}, MOST_CONNECTIONS
  end
  walk.networks = { tcp = networks.of(run, "tcp"), udp = networks.of(run, "udp") }
  networks.watch(run, "tcp", networks.APART)
  walk.lost = 0
  if sharkstat.cut then
    walk.lost_payload = require("sharkstat_cut").payload_reader(sharkstat)
    walk.handshake, walk.host = sharkstat.field "tls.handshake", sharkstat.field "http.host"
    function run.lost() return walk:lost_to_cuts() end
  end
  walk.pieces = { sharkstat.field "ip.fragment", sharkstat.field "ipv6.fragment" }
  walk.names, walk.learn = naming.address_book()
  walk.own_name = naming.of_connection()
  return walk
end

-- A cut packet may have said which service its connection or another is, or have named a host; or held a request, where the
-- run reads those (`reads_requests`).
function Walk:note_cut(c, path, pinfo, tvb)
  if path.holds.dns or SETTING_UP[path.protocol] then
    self.lost = self.lost + 1
  elseif not c.settled and self.lost_payload(pinfo, tvb, path) then
    if self.reads_requests then c.requests_cut = (c.requests_cut or 0) + 1 end
    if not path.protocol or c.guessed then
      c.cut = (c.cut or 0) + 1
    elseif NAMING[path.protocol] and not c.name and (path.protocol ~= "tls" or self.handshake()) then
      c.unnamed = (c.unnamed or 0) + 1
    end
  end
end

-- How many of them did, as far as that is known.
function Walk:lost_to_cuts()
  local lost = self.lost
  for _, c in ipairs(self.waiting) do
    if REQUESTS[c.protocol] and c.requests_cut then
      lost = lost + c.requests_cut
    else
      lost = lost + ((not c.protocol or c.guessed) and c.cut or 0) + (not c.name and c.unnamed or 0)
    end
  end
  return lost
end

-- The connections that wait to be settled, each with its service (service_names.lua).
function Walk:services()
  local told, at = naming.identify(self.book, self.waiting, self.names), 0
  return function()
    at = at + 1
    return self.waiting[at], told[at]
  end
end

function Walk:from_first(c, pinfo) return self.book:from_first(c, pinfo) end

-- Adds the fragments that wait to what belongs to no connection.
function Walk:let_go(among)
  for _, fragment in pairs(self.fragments) do self:alone(among, fragment.protocol, fragment) end
end

-- Fragments wait for the packet in which their datagram is whole, by their packet's number.
function Walk:hold(among, number, path, pinfo, length, time)
  if self.held == MOST_FRAGMENTS then
    self:let_go(among)
    self.fragments, self.held = {}, 0
  end
  local fragment = {
    protocol = path.protocol, sender = self.run:address(pinfo.src), packets = 1, bytes = length, first = time, last = time,
    length = length, time = time,
  }
  self.fragments[number] = fragment
  self.held = self.held + 1
  self:waits(fragment, pinfo)
end

function Walk:waits() end

function Walk:add_completed(sum)
  for _, field in ipairs(self.pieces) do
    for _, found in ipairs { field() } do
      local fragment = self.fragments[found.value]
      if fragment then
        sum.packets, sum.bytes = sum.packets + 1, sum.bytes + fragment.bytes
        sum.fragments = sum.fragments or {}
        sum.fragments[#sum.fragments + 1] = fragment
        if fragment.first < sum.first then sum.first = fragment.first end
        if fragment.last > sum.last then sum.last = fragment.last end
        self.fragments[found.value] = nil
        self.held = self.held - 1
      end
    end
  end
end

-- Notes what a packet tells of its connection's service.
function Walk:note(c, path, pinfo)
  if c.second_serves == nil then
    for _, protocol in ipairs(path.above) do self.book:look(c, pinfo, protocol) end
  end
  if not c.name then c.name = self.own_name(path) end
  layers.note(c, path)
end

-- `among` are the rows to which fragments are added that wait too long.
function Walk:listen(among)
  local path_of, sum = layers.reader(), {}
  local cut = sharkstat.cut
  self.run:listen("frame", function(pinfo, tvb, _, number, length, time, path)
    path = path or path_of(number)
    if cut and not path.transport and pinfo.caplen < length then
      self.lost = self.lost + ((path.fragment or BELOW[path.protocol]) and 1 or 0)
    end
    if path.fragment then return self:hold(among, number, path, pinfo, length, time) end
    sum.packets, sum.bytes, sum.first, sum.last = 1, length, time, time
    sum.length, sum.time, sum.fragments = length, time, nil
    if self.held > 0 then self:add_completed(sum) end
    if path.holds.dns then self.learn() end
    if not path.transport then return self:alone(among, path.protocol, sum, pinfo) end
    local known = (path.virtual or networks.all) and self.networks
    local c = self.book:of(pinfo, path.transport, number, known, path.virtual)
    if not c.waits then
      if not c.settled then
        c.name_a, c.name_b = self.names[c.a], self.names[c.b]
        self:met(c, sum)
      end
      c.waits = true
      self.waiting[#self.waiting + 1] = c
    end
    local named, before = c.name, c.protocol
    if path.above and not c.settled then self:note(c, path, pinfo) end
    if cut and path.protocol == c.protocol and (c.protocol ~= before or c.guessed) then
      -- Some dissectors take for theirs what they would not if all of it were there.
      c.guessed = pinfo.caplen < length and not path.plain
    end
    if cut and pinfo.caplen < length then
      local host = not named and c.name and path.holds.http and self.host()
      if host and host.offset + host.len >= pinfo.caplen then c.name = nil end  -- only the beginning of it is there
      self:note_cut(c, path, pinfo, tvb)
    end
    self:packet(c, path, pinfo, sum, number)
  end)
end

return service_packets
