-- Which end of a connection is the server. All taps have this one rule; the first of these that tells it does:
--
--   1. The SYN goes to the server (SCTP: the INIT).
--   2. Of UDP, a group or broadcast address is the server's: it never asks.
--   3. The server answers requests: where the tap looks above TCP and UDP at all.
--   4. A port at which a service is registered is the server's: one with a name here, then one below 1024, then one below
--      those that clients get.
--   5. The end that has the most peers in the capture is the server.
--
-- Where none does, the server is unknown. "The lower port" is no rule: clients of 50051 have ports on both sides of it.

local sharkstat = require "sharkstat"
local flows = require "flows"

local server = {}

-- What people call the ports that servers listen on; tshark itself names ports only where it resolves (-N t).
local NAMES = {
  [20] = "ftp-data", [21] = "ftp", [22] = "ssh", [23] = "telnet", [25] = "smtp", [43] = "whois", [49] = "tacacs",
  [53] = "dns", [67] = "dhcp", [69] = "tftp", [80] = "http", [88] = "kerberos", [110] = "pop3",
  [111] = "rpcbind", [123] = "ntp", [135] = "epmap", [137] = "netbios-ns", [138] = "netbios-dgm",
  [139] = "netbios-ssn", [143] = "imap", [161] = "snmp", [162] = "snmptrap", [179] = "bgp", [389] = "ldap",
  [443] = "https", [445] = "smb", [464] = "kpasswd", [465] = "smtps", [500] = "ike", [502] = "modbus",
  [514] = "syslog", [515] = "printer", [547] = "dhcpv6", [548] = "afp", [554] = "rtsp",
  [587] = "submission", [623] = "ipmi", [631] = "ipp", [636] = "ldaps", [646] = "ldp", [830] = "netconf",
  [853] = "dns-tls", [873] = "rsync", [989] = "ftps-data", [990] = "ftps", [993] = "imaps", [995] = "pop3s",
  [1080] = "socks", [1194] = "openvpn", [1433] = "ms-sql", [1521] = "oracle", [1701] = "l2tp", [1719] = "h323-ras",
  [1720] = "h323", [1723] = "pptp", [1812] = "radius", [1813] = "radius-acct", [1883] = "mqtt", [1900] = "ssdp",
  [2049] = "nfs", [2055] = "netflow", [2181] = "zookeeper", [2375] = "docker", [2376] = "docker-tls",
  [2379] = "etcd", [2380] = "etcd-peer", [3128] = "proxy", [3260] = "iscsi", [3268] = "ldap-gc", [3306] = "mysql",
  [3389] = "rdp", [3478] = "stun", [3702] = "ws-discovery", [4500] = "ipsec-nat-t", [4739] = "ipfix",
  [4789] = "vxlan", [5004] = "rtp", [5060] = "sip", [5061] = "sips", [5222] = "xmpp-client", [5269] = "xmpp-server",
  [5353] = "mdns", [5355] = "llmnr", [5432] = "postgresql", [5601] = "kibana", [5671] = "amqps", [5672] = "amqp",
  [5683] = "coap", [5900] = "vnc", [5985] = "winrm", [5986] = "winrm-https", [6081] = "geneve", [6343] = "sflow",
  [6379] = "redis", [6443] = "kubernetes", [6667] = "irc", [8080] = "http-alt", [8443] = "https-alt",
  [8883] = "mqtts", [9042] = "cassandra", [9090] = "prometheus", [9092] = "kafka", [9100] = "jetdirect",
  [9200] = "elasticsearch", [9300] = "elasticsearch", [10050] = "zabbix-agent", [10051] = "zabbix",
  [10250] = "kubelet", [11211] = "memcached", [27017] = "mongodb", [51820] = "wireguard",
}

-- Ports that clients listen on for what servers send to all.
local OF_CLIENTS = { [68] = true, [546] = true }

-- Linux gives clients ports from here on (others do from 49152 on, RFC 6335).
local DYNAMIC = 32768
local SYSTEM = 1024

-- The name of a port; nil where it has none here.
function server.name(port) return NAMES[port] end

local function rank(port)
  if NAMES[port] then return 3 end
  if port >= DYNAMIC or OF_CLIENTS[port] then return 0 end
  return port < SYSTEM and 2 or 1
end

-- Whether the second of two ports is the server's rather than the first, by all that ports tell; nil where they are alike.
function server.by_ports(first, second)
  local one, other = rank(first), rank(second)
  if one == other then return nil end
  return other > one
end

-- Rule 3: the same, where one is registered or a system's port. Below that many clients have their ports, too: then the
-- peers come before what the port tells.
function server.by_service(first, second)
  local one, other = rank(first), rank(second)
  if one == other or (one < 2 and other < 2) then return nil end
  return other > one
end

-- An address of many: of a group, or everybody's in a network.
local function of_many(address)
  local first = address:match("^(%d+)%.")
  if first then return (first + 0 >= 224 and first + 0 < 240) or address:find("%.255$") ~= nil end
  return address:find("^ff") ~= nil
end

-- With how many others each end was seen, counted where rule 3 tells nothing. There are at most `most` ends.
local Peers = {}
Peers.__index = Peers

function server.peers(most) return setmetatable({ room = most, counts = {} }, Peers) end

local function end_of(kind, address, port) return kind .. " " .. address .. " " .. port end

function Peers:add(kind, address, port)
  local key = end_of(kind, address, port)
  local count = self.counts[key]
  if not count then
    if self.room == 0 then return end
    self.room, count = self.room - 1, 0
  end
  self.counts[key] = count + 1
end

-- Rules 4 and 5, of a connection that was added: whether the second end serves; nil where both have as many peers, and
-- ports that are alike.
function Peers:second_serves(kind, address_a, port_a, address_b, port_b)
  local a = self.counts[end_of(kind, address_a, port_a)] or 0
  local b = self.counts[end_of(kind, address_b, port_b)] or 0
  if a == b then return server.by_ports(port_a, port_b) end
  return b > a
end

---------------------------------------------------------------------------------------------------
-- For the taps that see every packet: the connections that they met.

local SYN, ACK = 0x02, 0x10
local INIT, INIT_ACK = 1, 2

-- What tells a request from an answer, by protocol: fields that are there, or a field with its two values.
local ASKING = {
  http = { "http.request", "http.response" },
  sip = { "sip.Method", "sip.Status-Code" },
  dns = { "dns.flags.response", false, true },
  mdns = { "dns.flags.response", false, true },
  llmnr = { "dns.flags.response", false, true },
  nbns = { "nbns.flags.response", false, true },
  ntp = { "ntp.flags.mode", 3, 4 },
  tls = { "tls.handshake.type", 1, 2 },
  dtls = { "dtls.handshake.type", 1, 2 },
  quic = { "tls.handshake.type", 1, 2 },
}

-- A function that gives true for a request, false for an answer, and nil for what is neither.
local function teller(names)
  local field = sharkstat.field(names[1])
  if #names == 2 then
    local answer = sharkstat.field(names[2])
    return function() if field() then return true elseif answer() then return false end end
  end
  local ask, answer = names[2], names[3]
  return function()
    local found = field()
    if not found then return nil end
    local value = found.value
    if value == ask then return true elseif value == answer then return false end
  end
end

-- The innermost of a packet's headers of a kind comes last.
local function last_of(field)
  local first, second = field()
  if second then first = select(-1, field()) end
  return first and first.value
end

local Book = {}
Book.__index = Book

-- A book of connections, at most `most` of them. With `requests` it looks for requests and answers, too: for taps that
-- ask for more than the transport.
function server.book(run, most, requests)
  local book = setmetatable({ run = run, room = most, peers = server.peers(2 * most), asking = {} }, Book)
  book.flags, book.chunks = sharkstat.field "tcp.flags", sharkstat.field "sctp.chunk_type"
  book.streams = { tcp = sharkstat.field "tcp.stream", udp = sharkstat.field "udp.stream" }
  book.known = { tcp = {}, udp = {}, sctp = {} }
  for protocol, names in pairs(requests and ASKING or {}) do book.asking[protocol] = teller(names) end
  return book
end

-- tshark's number for the connection of the packet at hand, which is read once, whoever asks.
local current, current_kind, current_key

-- By what a connection is known: tshark's number for it; where there is none, the two ends. `networks` (networks.lua, by
-- kind) tell it from another one in another network, where they are given; `virtual` is the path's (layers.lua).
function Book:key(pinfo, kind, packet, networks, virtual)
  local number = current_key
  if packet ~= current or kind ~= current_kind then
    local field = self.streams[kind]
    number = field and last_of(field)
    if number then current, current_kind, current_key = packet, kind, number end
  end
  if number then return networks and networks[kind]:key(number, pinfo, virtual) or number end
  local one = self.run:address(pinfo.src) .. " " .. pinfo.src_port
  local other = self.run:address(pinfo.dst) .. " " .. pinfo.dst_port
  return one < other and one .. " " .. other or other .. " " .. one
end

-- The connection of a packet (its number) of tcp, udp or sctp, made with its first packet: `a` is who has sent that.
-- `networks` are given to tell it from others, by whether the packet is in a `virtual` one. Where there is no room for it
-- `full` is called, which makes some; without that it is nil.
function Book:of(pinfo, kind, packet, networks, virtual)
  local key
  if packet == current and kind == current_kind and not networks then
    key = current_key
  else
    key = self:key(pinfo, kind, packet, networks, virtual)
  end
  return self.known[kind][key] or self:meet(pinfo, kind, key)
end

function Book:meet(pinfo, kind, key)
  if self.room == 0 and self.full then self.full() end
  if self.room == 0 then return nil end
  self.room = self.room - 1
  local c = { kind = kind, key = key, port_a = pinfo.src_port, port_b = pinfo.dst_port }
  c.flow = flows.of(pinfo)
  c.a, c.b = self.run:address(pinfo.src), self.run:address(pinfo.dst)
  self.known[kind][key] = c
  if kind == "tcp" then
    local flags = last_of(self.flags) or 0
    if flags % (2 * SYN) >= SYN then c.second_serves = flags % (2 * ACK) < ACK end
  elseif kind == "sctp" then
    local chunk = self.chunks()
    chunk = chunk and chunk.value
    if chunk == INIT or chunk == INIT_ACK then c.second_serves = chunk == INIT end
  elseif of_many(c.b) and not OF_CLIENTS[c.port_b] then
    c.second_serves = true
  end
  if server.by_service(c.port_a, c.port_b) == nil then
    self.peers:add(kind, c.a, c.port_a)
    self.peers:add(kind, c.b, c.port_b)
  end
  return c
end

-- Whether the packet was sent by the end `a` of its connection. Its port is read once for all who give the packet's number.
local port_packet, port
function Book:from_first(c, pinfo, packet)
  if not packet or packet ~= port_packet then port_packet, port = packet, pinfo.src_port end
  if c.port_a ~= c.port_b then return port == c.port_a end
  return self.run:address(pinfo.src) == c.a
end

-- Looks for a request or an answer in a packet of a connection; `protocol` is what tshark found in it.
function Book:look(c, pinfo, protocol)
  local asking = self.asking[protocol]
  if c.second_serves ~= nil or not asking then return end
  local asks = asking()
  if asks ~= nil then c.second_serves = asks == self:from_first(c, pinfo) end
end

-- Whether the second end of a connection serves, by all that is known so far; nil where that is unknown.
function Book:second_serves(c)
  if c.second_serves ~= nil then return c.second_serves end
  local by_service = server.by_service(c.port_a, c.port_b)
  if by_service ~= nil then return by_service end
  return self.peers:second_serves(c.kind, c.a, c.port_a, c.b, c.port_b)
end

return server
