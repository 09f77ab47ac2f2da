-- What a packet's protocols ("eth:ethertype:ip:tcp:tls:http2", the field frame.protocols) say of the service that it
-- belongs to.

local layers = {}

local CONNECTED = { tcp = true, udp = true, sctp = true }
local LINKS = { eth = true, wlan = true, ip = true, ipv6 = true }
local QUOTING = { icmp = true, icmpv6 = true }
-- These carry the protocol that people mean, or begin what turns out to be another.
local CARRIERS = {
  tls = true, dtls = true, quic = true, nbss = true, nbdgm = true, rpc = true, tpkt = true, cotp = true, ses = true,
  pres = true, proxy = true, stun = true, classicstun = true,
}
-- These take the place of what the connection began with.
local INSTEAD_OF = { smb2 = "smb", http2 = "http", grpc = "http2" }

-- Parts of other protocols, and payload that nobody recognised.
local function is_part(name)
  return name == "data" or name == "ocsp" or name:find("%.") or name:find("^x509") or name:find("^pkix")
    or name:find("^pkcs")
end

-- transport: "tcp", "udp", "sctp" or nil; protocol: of the application, nil where there is none above the transport but
-- carriers; carrier: the first of those; holds: which protocols there are above the transport; above: the same in order,
-- nil where there are none; fragment: whether it is a part of a datagram that is not whole yet. Without a transport
-- `protocol` is the highest.
function layers.read(text)
  local path = { holds = {} }
  local above, last = {}, nil
  for name in text:gmatch("[^:]+") do
    if QUOTING[name] then
      return { protocol = name, holds = {} }
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
  for _, name in ipairs(above) do
    path.holds[name] = true
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

-- Notes in a connection the protocol that a packet of it shows.
function layers.note(connection, path)
  local protocol = path.protocol
  if protocol and (not connection.protocol or INSTEAD_OF[protocol] == connection.protocol) then
    connection.protocol = protocol
  end
  connection.carrier = connection.carrier or path.carrier
end

return layers
