-- name: apps
-- title: Applications
-- description: Which application protocols does this traffic consist of?
--     Packets and bytes by the highest protocol that tshark recognizes, and by server port. Every packet counts once, so
--     the rows add up to the whole capture. Packets quoted in ICMP errors and certificates in TLS handshakes do not count as
--     the highest protocol. The server is the host that received the SYN or answered requests; if neither was seen, the
--     port number decides, then the number of peers. `services` counts whole connections instead.
-- parameter: max integer 100000 maximum number of rows; the rest goes into the row `(other)`
-- column: protocol text key; highest protocol, as named by tshark: `tls`, `http`; `data` if none was recognized
-- column: transport text key; `tcp`, `udp`, ...; empty for packets without ports
-- column: server_port integer key; empty for packets without ports, or if the server is unknown
-- column: packets integer sum packets
-- column: bytes integer sum bytes share
-- sort: bytes descending, packets descending, protocol
-- field: frame.protocols

package.path = (__DIR__ or debug.getinfo(1, "S").source:match("@(.*[/\\])")) .. "?.lua;" .. package.path
local sharkstat = require "sharkstat"
local rows = require "rows"
local server = require "server"

local moment = sharkstat.moment

-- Connections that are told apart; of all further ones the ports alone tell.
local MOST_CONNECTIONS = 100000

local CONNECTED = { tcp = true, udp = true, sctp = true }
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

-- The protocols of a path that may hold a request.
local function above(path, transport)
  local found, seen = {}, transport == nil
  for name in path:gmatch("[^:]+") do
    if seen then found[#found + 1] = name end
    if name == transport then found, seen = {}, true end
  end
  return found
end

local NO_PORT = -1
local function port_of(second_serves, first, second)
  if second_serves == nil then return NO_PORT end
  return second_serves and second or first
end

local MOST_PATHS = 10000

sharkstat.tap(__FILE__, function(run)
  local path_field = sharkstat.field "frame.protocols"
  local apps = rows.new(run, function(_, protocol, transport, port)
    return { protocol or sharkstat.OTHER, transport, port ~= NO_PORT and port or nil, 0, 0 }
  end)
  local book = server.book(run, MOST_CONNECTIONS, true)

  -- What was made of a path, and the rows of its ports. They are found again by their keys, so they may be forgotten.
  local paths, count = {}, 0
  local function path_of(text)
    local protocol, transport = highest(text)
    if count == MOST_PATHS then paths, count = {}, 0 end
    local path = { protocol = protocol, transport = transport, rows = {} }
    if CONNECTED[transport] then path.connected, path.above = transport, above(text, transport) end
    paths[text], count = path, count + 1
    return path
  end

  local function row_of(among, path, port)
    local key = ("%s %s %d"):format(path.protocol, path.transport or "", port)
    return among:of(key, path.protocol, path.transport, port)
  end

  local function add(path, port, packets, bytes)
    local row = path.rows[port]
    if not row then
      row = row_of(apps, path, port)
      if row ~= apps.other then path.rows[port] = row end
    end
    row[4], row[5] = row[4] + packets, row[5] + bytes
  end

  -- What was counted of a connection before it was known which of its ends is the server: by path.
  local function hold(c, path, length)
    c.held = c.held or {}
    local counts = c.held[path]
    if not counts then
      counts = { 0, 0 }
      c.held[path] = counts
    end
    counts[1], counts[2] = counts[1] + 1, counts[2] + length
  end

  local waiting = {}  -- the connections of which something is held

  -- What a cut packet carries may be another protocol than what is left of it shows. A segment without data carries nothing.
  local cut = sharkstat.cut and not sharkstat.all_of(run.filter, sharkstat.display_filter)
  local begin, size = cut and sharkstat.field "tcp.srcport", cut and sharkstat.field "tcp.hdr_len"
  local lost = 0
  if cut then
    function run.lost() return lost end
  end

  run:listen("frame", function(pinfo)
    local text = path_field().value
    local path = paths[text] or path_of(text)
    local number, length = moment(pinfo)
    if cut and pinfo.caplen < length then
      local first, header, another
      if path.transport == "tcp" then
        first, another = begin()
        header = size()
      end
      if another or not (first and header and first.offset + header.value >= length) then lost = lost + 1 end
    end
    if not path.transport then return add(path, NO_PORT, 1, length) end
    local c = path.connected and book:of(pinfo, path.connected, number)
    if not c then
      local first, second = pinfo.src_port, pinfo.dst_port
      return add(path, port_of(server.by_ports(first, second), first, second), 1, length)
    end
    if c.second_serves == nil then
      for _, protocol in ipairs(path.above) do book:look(c, pinfo, protocol) end
    end
    if c.second_serves == nil then
      if not c.held then waiting[#waiting + 1] = c end
      return hold(c, path, length)
    end
    local port = port_of(c.second_serves, c.port_a, c.port_b)
    if c.held then
      for before, counts in pairs(c.held) do add(before, port, counts[1], counts[2]) end
      c.held = nil
    end
    add(path, port, 1, length)
  end)

  return function()
    local result = apps:result(run)
    for _, c in ipairs(waiting) do
      local port = port_of(book:second_serves(c), c.port_a, c.port_b)
      for path, counts in pairs(c.held or {}) do
        local row = row_of(result, path, port)
        row[4], row[5] = row[4] + counts[1], row[5] + counts[2]
      end
    end
    for row in result:each() do run:row(row) end
  end
end)
