-- name: quic,servers
-- title: QUIC servers
-- description: Which QUIC servers are used, with which version, SNI and ALPN protocol, and how long do handshakes take?
--     One row per server name (SNI), address, port, version and protocol, with the connections as tshark numbers them.
--     tshark reads the ClientHello without keys. The server's choice of ALPN is encrypted: it is known if the client
--     offered only one protocol, since QUIC requires agreement, or if tshark has the keys (--keylog). The handshake time
--     runs from the client's first Initial packet to the server's first Handshake packet, and is unknown if the
--     ClientHello was not seen. In that case the ServerHello shows which end is the server, then the port number, then
--     the number of peers; if none decides, the row has no address. Packets and bytes are those of frames. Google QUIC
--     (before the RFC) is not included.
-- parameter: max integer 100000 maximum number of rows; further connections share the row (other)
-- column: server_name text key ; SNI from the ClientHello, in lower case
-- column: address address key ; of the server
-- column: port integer key ; of the server
-- column: version text key ; of the server's packets; of the client's if the server did not answer
-- column: alpn text key ; negotiated protocol, if it can be known
-- column: alpn_offered set union ; protocols offered by clients
-- column: connections integer sum
-- column: completed integer sum ; connections with a Handshake packet from the server
-- column: packets integer sum packets ; both directions
-- column: bytes integer sum bytes ; both directions
-- column: timed integer sum hidden ; handshakes seen from the start
-- column: time duration sum seconds hidden ; total time of these handshakes
-- column: min_handshake duration min seconds
-- column: mean_handshake duration time/timed seconds
-- column: p50_handshake duration p50:times/min_handshake/max_handshake seconds title="p50 handshake"
-- column: p95_handshake duration p95:times/min_handshake/max_handshake seconds title="p95 handshake"
-- column: p99_handshake duration p99:times/min_handshake/max_handshake seconds title="p99 handshake"
-- column: max_handshake duration max seconds
-- column: times set sketch hidden ; sketch of these times: p50, p95 and p99 are within 1 %, and exact for up to 100
-- section: 650 title=QUIC rows=4 columns=server_name=name,address:port=server,version,connections=conns,bytes,mean_handshake=handshake
-- sort: connections descending, bytes descending, server_name, address, port, version, alpn
-- field: quic.connection.number
-- field: quic.version
-- field: quic.long.packet_type
-- field: tls.handshake.type
-- field: tls.handshake.extensions_server_name
-- field: tls.handshake.extensions_alpn_str
-- layer: messages

package.path = (__DIR__ or debug.getinfo(1, "S").source:match("@(.*[/\\])")) .. "?.lua;" .. package.path
local sharkstat = require "sharkstat"
local rows = require "rows"
local server = require "server"
local layers = require "layers"

local relative_ns = sharkstat.relative_ns

local CLIENT_HELLO, SERVER_HELLO, ENCRYPTED_EXTENSIONS = 1, 2, 8
local INITIAL, HANDSHAKE = 0, 2
local INITIAL_V2, HANDSHAKE_V2 = 1, 3

sharkstat.tap(__FILE__, function(run)
  run.reads = { protocols = { "quic" } }
  local numbers, versions = sharkstat.field "quic.connection.number", sharkstat.field "quic.version"
  local kinds, types = sharkstat.field "quic.long.packet_type", sharkstat.field "tls.handshake.type"
  -- Version 2 numbers its packet types anew; tshark has a field for them from 4.0.1 on.
  local has_v2, kinds_v2 = pcall(sharkstat.field, "quic.long.packet_type_v2")
  local names = sharkstat.field "tls.handshake.extensions_server_name"
  local protocols = sharkstat.field "tls.handshake.extensions_alpn_str"
  local version_words = rows.words()

  local servers = rows.new(run, function(...)
    local row = { connections = 0, completed = 0, packets = 0, bytes = 0, offered = {} }
    row.name, row.address, row.port, row.version, row.alpn = ...
    if select("#", ...) == 0 then row.name = sharkstat.OTHER end
    return row
  end)

  -- By tshark's number: the row, once it is known.
  local row_of = {}

  -- What each end did: sent its first Initial and its first Handshake packet, a version, a choice of ALPN.
  local function new_end(address, port) return { address = address, port = port } end

  local peers = server.peers(2 * run.parameters.max)
  local function by_peers(c)
    return peers:second_serves("udp", c[1].address, c[1].port, c[2].address, c[2].port)
  end

  -- Which of its ends is the server, 1 or 2; nil where nothing tells yet.
  local function serving(c)
    local second = c.second_serves
    if second == nil then second = server.by_service(c[1].port, c[2].port) end
    return second ~= nil and (second and 2 or 1) or nil
  end

  local function add_connection(among, c)
    local at = serving(c)
    if not at then
      local second = by_peers(c)
      at = second ~= nil and (second and 2 or 1) or nil
    end
    local to, from = c[at or 2], c[at == 1 and 2 or 1]
    local alpn = to.alpn or (#c.offered == 1 and c.offered[1] or nil)
    local row = among:at(c.name, at and to.address, at and to.port, to.version or from.version, alpn)
    row.connections = row.connections + 1
    row.packets, row.bytes = row.packets + c.packets, row.bytes + c.bytes
    for _, protocol in ipairs(c.offered) do rows.add(row.offered, protocol) end
    if at and to.finished then
      row.completed = row.completed + 1
      if c.hello and from.began then rows.time_in_sketch(row, sharkstat.elapsed(from.began, to.finished)) end
    end
    return row
  end

  local function settle(c) row_of[c.number] = add_connection(servers, c) end
  local handshakes = rows.requests(run, settle)

  local function has(field, wanted)
    for _, found in ipairs { field() } do
      if found.value == wanted then return true end
    end
  end

  local function look(c, pinfo)
    local first = pinfo.src_port == c[1].port
    if first and c[1].port == c[2].port then first = run:address(pinfo.src) == c[1].address end
    local sender = c[first and 1 or 2]
    local client_hello = has(types, CLIENT_HELLO)
    if client_hello then
      c.second_serves = first
    elseif c.second_serves == nil and has(types, SERVER_HELLO) then
      c.second_serves = not first
    end
    if client_hello and not c.hello then
      c.hello = true
      local name = names()
      c.name = name and name.value:lower()
      for _, protocol in ipairs { protocols() } do c.offered[#c.offered + 1] = protocol.value end
    end
    local version = versions()
    if version and version.value ~= 0 and not sender.version then  -- 0: a negotiation
      sender.version = version_words(version)
    end
    if not sender.began and (has(kinds, INITIAL) or (has_v2 and has(kinds_v2, INITIAL_V2))) then
      sender.began = relative_ns(pinfo)
    end
    if not sender.finished and (has(kinds, HANDSHAKE) or (has_v2 and has(kinds_v2, HANDSHAKE_V2))) then
      sender.finished = relative_ns(pinfo)
      if has(types, ENCRYPTED_EXTENSIONS) then
        local protocol = protocols()
        sender.alpn = protocol and protocol.value
      end
      -- The handshake is over for what is counted, once the server's packet came.
      if serving(c) == (first and 1 or 2) then
        handshakes:take(c.number)
        settle(c)
      end
    end
  end

  run:listen("frame", function(pinfo)
    local number = numbers()
    if not number then return end
    number = number.value
    local row = row_of[number]
    if row then
      row.packets, row.bytes = row.packets + 1, row.bytes + pinfo.len
      return
    end
    local c = handshakes:find(number)
    if not c then
      local from, to = new_end(run:address(pinfo.src), pinfo.src_port), new_end(run:address(pinfo.dst), pinfo.dst_port)
      c = { from, to, number = number, offered = {}, packets = 0, bytes = 0 }
      if server.by_service(from.port, to.port) == nil then
        peers:add("udp", from.address, from.port)
        peers:add("udp", to.address, to.port)
      end
      handshakes:put(number, c)
    end
    c.packets, c.bytes = c.packets + 1, c.bytes + pinfo.len
    look(c, pinfo)
  end, "quic && !icmp && !icmpv6", layers.unquoted "quic")

  return function()
    local result = servers:result(run)
    for c in handshakes:each() do add_connection(result, c) end
    for row in result:each() do
      run:row {
        row.name, row.address, row.port, row.version, row.alpn, row.offered, row.connections, row.completed, row.packets,
        row.bytes, row.timed or 0, row.time or 0, row.least, row.most, row.times,
      }
    end
  end
end)
