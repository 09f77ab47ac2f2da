-- name: apps
-- title: Applications
-- description: Which applications is this traffic made of?
--     Packets and bytes by the highest protocol that tshark found in them, and by the server's port. Every packet is counted
--     once, so the rows add up to all that was read. What an ICMP error quotes, and the certificates inside of a TLS
--     handshake, are not the packet's highest protocol.
-- parameter: max integer 100000 rows; everything beyond is in the row `(other)`
-- column: protocol text key; the highest, as tshark calls it: `tls`, `http`, `data` where nothing was recognised
-- column: transport text key; `tcp`, `udp`, ...; none where the packet has no ports
-- column: server_port integer key; a port that is known as a service's, or the lower one; none where both are dynamic
-- column: packets integer sum packets
-- column: bytes integer sum bytes share
-- sort: bytes descending, packets descending, protocol
-- field: frame.protocols

if __DIR__ then package.path = __DIR__ .. "?.lua;" .. package.path end
local sharkstat = require "sharkstat"
local rows = require "rows"
local services = require "services"

local moment = sharkstat.moment

local TRANSPORTS = { tcp = true, udp = true, udplite = true, dccp = true, sctp = true }
local QUOTING = { icmp = true, icmpv6 = true }

-- Dissected inside of messages of others, and not what anyone would call the packet.
local function is_notation(name, inside_tls)
  return name:find("^x509") or name:find("^pkix") or name:find("^pkcs") or (name == "ocsp" and inside_tls)
end

-- The highest protocol of a path such as "eth:ethertype:ip:tcp:tls", and its transport.
local function highest(path)
  local transport, last, inside_tls = nil, nil, false
  for name in path:gmatch("[^:]+") do
    if TRANSPORTS[name] then
      transport = name
    elseif QUOTING[name] then
      return name, nil
    elseif name == "tls" or name == "dtls" then
      inside_tls = true
    end
    if not is_notation(name, inside_tls) then last = name end
  end
  return last or path, transport
end

local NO_PORT = -1
local MOST_PATHS = 10000

sharkstat.tap(__FILE__, function(run)
  local path_field = sharkstat.field "frame.protocols"
  local apps = rows.new(run.parameters.max, function(_, protocol, transport, port)
    return { protocol or "(other)", transport, port ~= NO_PORT and port or nil, 0, 0 }
  end)

  -- What was made of a path, and the rows of its ports. They are found again by their keys, so they may be forgotten.
  local paths, count = {}, 0
  local function path_of(text)
    local protocol, transport = highest(text)
    if count == MOST_PATHS then paths, count = {}, 0 end
    local path = { protocol = protocol, transport = transport, rows = {} }
    paths[text], count = path, count + 1
    return path
  end

  run:listen("frame", function(pinfo)
    local text = path_field().value
    local path = paths[text] or path_of(text)
    local port = path.transport and services.port(pinfo.src_port, pinfo.dst_port) or NO_PORT
    local row = path.rows[port]
    if not row then
      local key = ("%s %s %d"):format(path.protocol, path.transport or "", port)
      row = apps:of(key, path.protocol, path.transport, port)
      if row ~= apps.other then path.rows[port] = row end
    end
    local _, length = moment(pinfo)
    row[4], row[5] = row[4] + 1, row[5] + length
  end)
  return function()
    for row in apps:each() do run:row(row) end
  end
end)
