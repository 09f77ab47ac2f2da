-- What a packet's protocols ("eth:ethertype:ip:tcp:tls:http2", the field frame.protocols) say of the service that it
-- belongs to.

local sharkstat = require "sharkstat"

local layers = {}

local CONNECTED = { tcp = true, udp = true, sctp = true }
local LINKS = { eth = true, wlan = true, ip = true, ipv6 = true }
local QUOTING = { icmp = true, icmpv6 = true }
-- These carry the protocol that people mean, or begin what turns out to be another.
local CARRIERS = {
  tls = true, dtls = true, quic = true, nbss = true, nbdgm = true, rpc = true, tpkt = true, cotp = true, ses = true,
  pres = true, proxy = true, stun = true, classicstun = true,
}
-- Above these, and parts, a packet's addresses are those of its transport.
local PLAIN = {
  http = true, http2 = true, tls = true, dns = true, mdns = true, llmnr = true, quic = true, ssh = true, ntp = true, dhcp = true,
  nbss = true, smb = true, smb2 = true, nbns = true, snmp = true, ssdp = true, stun = true, rtp = true, rtcp = true, sip = true,
}
-- These take the place of what the connection began with.
local INSTEAD_OF = { smb2 = "smb", http2 = "http", grpc = "http2" }

-- Parts of other protocols, and payload that nobody recognised.
local function is_part(name)
  return name == "data" or name == "ocsp" or name:find("%.") or name:find("^x509") or name:find("^pkix")
    or name:find("^pkcs")
end

local FREQUENT = { "vlan", "vxlan", "geneve", "gre" }
local RARE = { "mpls", "pppoes", "gtp", "l2tp", "nsh", "erspan", "ieee8021ah", "ieee8021ad", "lisp-data", "isl", "stt" }
local function has_any(text, names)
  for _, name in ipairs(names) do
    if (":" .. text):find(":" .. name .. ":", 1, true) then return true end
  end
  return false
end

-- Whether there is a protocol of this name in the text of a path.
function layers.has(path, name) return (":" .. path.text .. ":"):find(":" .. name .. ":", 1, true) ~= nil end

-- For Run:listen: what takes the packets with all these protocols in which nothing is quoted, as `NAME && !icmp && !icmpv6`
-- does: an error quotes what was said before.
function layers.unquoted(...)
  local names = { ... }
  return function(path)
    if path.quoting or layers.has(path, "icmp") or layers.has(path, "icmpv6") then return false end
    for _, name in ipairs(names) do
      if not layers.has(path, name) then return false end
    end
    return true
  end
end

-- text: all that the packet's protocols are; transport: "tcp", "udp", "sctp" or nil; protocol: of the application, nil where there is none above the transport but
-- carriers; carrier: the first of those; holds: which protocols there are above the transport; above: the same in order,
-- nil where there are none; plain: whether all of those are such that its addresses are the transport's; fragment: whether
-- it is a part of a datagram that is not whole yet; virtual: whether it may be in a virtual network: true, false or "rare"
-- (networks.lua); link: the lowest; quoting: whether it is an ICMP packet, which may quote another. Without a transport `protocol` is the highest.
function layers.read(text)
  local path = { text = text, holds = {}, link = text:match("^[^:]+") or text, virtual = false }
  path.virtual = has_any(text, RARE) and "rare" or has_any(text, FREQUENT)
  local above, last = {}, nil
  for name in text:gmatch("[^:]+") do
    if QUOTING[name] then
      return { text = text, protocol = name, holds = {}, link = path.link, virtual = path.virtual, quoting = true }
    elseif CONNECTED[name] then
      path.transport, above = name, {}
    elseif LINKS[name] then
      path.transport, above = nil, {}
    elseif path.transport then
      above[#above + 1] = name
    end
    if not is_part(name) then last = name end
  end
  if not path.transport then
    path.protocol = last or text
    path.fragment = last == "ip" or last == "ipv6"
    return path
  end
  path.plain = true
  for _, name in ipairs(above) do
    path.holds[name] = true
    path.plain = path.plain and (PLAIN[name] or is_part(name)) and true or false
    if CARRIERS[name] then
      path.carrier = path.carrier or name
    elseif not path.protocol and not is_part(name) then
      path.protocol = name
    elseif path.protocol and INSTEAD_OF[name] == path.protocol then
      path.protocol = name
    end
  end
  if path.holds.mdns or path.holds.llmnr then path.holds.dns = true end
  if #above > 0 then path.above = above end
  return path
end

-- What was made of a path. It is made again where it was forgotten.
local MOST_PATHS = 10000
local paths, count = {}, 0
local current, path_of_current

-- A function that gives, by a packet's number, what its protocols say: read once a packet, whoever asks.
function layers.reader()
  local field = sharkstat.field "frame.protocols"
  return function(number)
    if number == current then return path_of_current end
    local text = field().value
    local path = paths[text]
    if not path then
      if count == MOST_PATHS then paths, count = {}, 0 end
      path = layers.read(text)
      paths[text], count = path, count + 1
    end
    current, path_of_current = number, path
    return path
  end
end

-- Notes in a connection the protocol that a packet of it shows.
function layers.note(connection, path)
  local protocol = path.protocol
  if protocol and (not connection.protocol or INSTEAD_OF[protocol] == connection.protocol) then
    connection.protocol = protocol
  end
  connection.carrier = connection.carrier or path.carrier
end

return layers
