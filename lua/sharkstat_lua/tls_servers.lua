-- name: tls,servers
-- title: TLS servers
-- description: Which TLS servers are used, with which SNI, version, cipher suite and ALPN protocol, how long do handshakes
--     take, and when do certificates expire?
--     One row per server name (SNI), address, port and negotiated parameters, for TLS over TCP. Missing values were not
--     captured or are encrypted: in TLS 1.3, ALPN and the server's certificate are visible only if tshark has the keys
--     (--keylog). Connections without a ClientHello or ServerHello in the capture are not included. The handshake time
--     runs from the ClientHello to the packet with the server's Finished, its first encrypted one. Bytes are those of
--     whole TCP conversations, as in `conv,tcp`.
-- parameter: max integer 100000 maximum number of rows; further connections share the row (other)
-- column: server_name text key ; SNI from the ClientHello, in lower case
-- column: address address key ; of the server
-- column: port integer key ; of the server
-- column: version text key ; chosen by the server
-- column: cipher_suite text key ; chosen by the server
-- column: alpn text key ; protocol chosen by the server, if visible
-- column: alpn_offered set union ; protocols offered by clients
-- column: connections integer sum ; with a ClientHello or ServerHello
-- column: completed integer sum ; completed handshakes
-- column: bytes integer sum bytes ; of the TCP conversations, both directions
-- column: timed integer sum hidden ; handshakes captured from start to end
-- column: time duration sum seconds hidden ; total time of these handshakes
-- column: min_handshake duration min seconds
-- column: mean_handshake duration time/timed seconds
-- column: p50_handshake duration p50:times/min_handshake/max_handshake seconds title="p50 handshake"
-- column: p95_handshake duration p95:times/min_handshake/max_handshake seconds title="p95 handshake"
-- column: p99_handshake duration p99:times/min_handshake/max_handshake seconds title="p99 handshake"
-- column: max_handshake duration max seconds
-- column: times set sketch hidden ; sketch of these times: p50, p95 and p99 are within 1 %, and exact for up to 100
-- column: certificate_expires text min ; earliest expiry of a server certificate (not of CA certificates), in UTC
-- section: 600 title=TLS rows=4 columns=server_name=name,address:port=server,version,connections=conns,bytes,mean_handshake=handshake
-- sort: connections descending, bytes descending, server_name, address, port, version, cipher_suite, alpn
-- field: tcp.stream
-- field: tls.handshake.type
-- field: tls.handshake.version
-- field: tls.handshake.extensions.supported_version
-- field: tls.handshake.ciphersuite
-- field: tls.handshake.extensions_server_name
-- field: tls.handshake.extensions_alpn_str
-- field: tls.record.content_type
-- field: tls.record.opaque_type
-- field: x509af.notAfter
-- field: x509af.utcTime
-- field: x509af.generalizedTime
-- layer: messages

package.path = (__DIR__ or debug.getinfo(1, "S").source:match("@(.*[/\\])")) .. "?.lua;" .. package.path
local sharkstat = require "sharkstat"
local rows = require "rows"
local networks = require "networks"
local layers = require "layers"
local tell_of_unrecognized = require "unrecognized"

local relative_ns = sharkstat.relative_ns

local CLIENT_HELLO, SERVER_HELLO, ENCRYPTED_EXTENSIONS, CERTIFICATE = 1, 2, 8, 11
local CHANGE_CIPHER_SPEC, APPLICATION_DATA = 20, 23
local TLS_1_3 = "TLS 1.3"
local TELLING = { [CLIENT_HELLO] = true, [SERVER_HELLO] = true, [ENCRYPTED_EXTENSIONS] = true, [CERTIFICATE] = true }

sharkstat.tap(__FILE__, function(run)
  local function field(name) return sharkstat.field(name) end
  local streams, types = field "tcp.stream", field "tls.handshake.type"
  local versions, chosen = field "tls.handshake.version", field "tls.handshake.extensions.supported_version"
  local suites, names = field "tls.handshake.ciphersuite", field "tls.handshake.extensions_server_name"
  local protocols = field "tls.handshake.extensions_alpn_str"
  local contents, outer = field "tls.record.content_type", field "tls.record.opaque_type"
  local not_after, utc_times, later_times =
    field "x509af.notAfter", field "x509af.utcTime", field "x509af.generalizedTime"
  local version_words, suite_words = rows.words(), rows.words()

  local servers = rows.new(run, function(...)
    local row = { connections = 0, completed = 0, bytes = 0, offered = {} }
    row.name, row.address, row.port, row.version, row.suite, row.alpn = ...
    if select("#", ...) == 0 then row.name = sharkstat.OTHER end
    return row
  end)

  -- By stream: bytes so far, the row once it is known, and the connections whose server has spoken but not finished.
  local bytes, row_of, unfinished = {}, {}, {}

  local function add_connection(among, c)
    local row = among:at(c.name, c.address, c.port, c.version, c.suite, c.alpn)
    row.connections = row.connections + 1
    for _, protocol in ipairs(c.offered) do rows.add(row.offered, protocol) end
    if c.expires and (not row.expires or c.expires < row.expires) then row.expires = c.expires end
    if c.ended then
      row.completed = row.completed + 1
      if c.began then rows.time_in_sketch(row, sharkstat.elapsed(c.began, c.ended)) end
    end
    return row
  end

  local function settle(c)
    row_of[c.stream], unfinished[c.stream] = add_connection(servers, c), nil
  end
  local handshakes = rows.requests(run, settle)

  -- The server's Finished is in the first packet that it encrypts: behind its ChangeCipherSpec, and from TLS 1.3 on
  -- in records that look like application data.
  local function finishes(c)
    for _, record in ipairs { contents() } do
      local content = record.value
      if content == APPLICATION_DATA or (content == CHANGE_CIPHER_SPEC and c.version:sub(1, #TLS_1_3) ~= TLS_1_3) then
        return true
      end
    end
    return outer() ~= nil
  end

  local function look_for_end(c, pinfo)
    if not finishes(c) then return end
    c.ended = relative_ns(pinfo)
    handshakes:take(c.stream)
    settle(c)
  end

  run.reads = { protocols = { "tls" }, needs = function(stream) return not row_of[stream] end }
  -- Inside of a tunnel the last one counts.
  local of_tcp = networks.of(run, "tcp", "handshakes may be missing", true)
  local function stream_of(pinfo, virtual)
    local stream
    for _, found in ipairs { streams() } do stream = found.value end
    return stream and of_tcp:key(stream, pinfo, virtual)
  end

  -- When the first certificate in the packet ends: the server's own comes before those that signed it (RFC 8446, 4.4.2).
  local function expiry()
    local last = not_after()
    if not last then return end
    local first, behind = last.offset, last.offset + last.len
    for _, times in ipairs { utc_times, later_times } do
      for _, time in ipairs { times() } do
        if time.offset >= first and time.offset < behind then
          local value = time.value
          if type(value) ~= "string" then return os.date("!%Y-%m-%dT%H:%M:%SZ", value.secs) end
          local day, hour = value:match("^(%d+%-%d+%-%d+) (%d+:%d+:%d+)")
          return day and day .. "T" .. hour .. "Z"
        end
      end
    end
  end

  local function tells()
    for _, found in ipairs { types() } do
      if TELLING[found.value] then return true end
    end
    return false
  end

  of_tcp:listen("frame", function(pinfo, _, _, virtual)
    local telling = tells()
    if not telling and next(unfinished) == nil then return end
    local stream = stream_of(pinfo, virtual)
    local c = unfinished[stream]
    if not telling then
      if c and pinfo.src_port == c.port then look_for_end(c, pinfo) end
      return
    end
    c = handshakes:find(stream)
    local settled = row_of[stream]
    for _, found in ipairs { types() } do
      local kind = found.value
      if not settled and not c and (kind == CLIENT_HELLO or kind == SERVER_HELLO) then
        c = { stream = stream, offered = {} }
        if kind == CLIENT_HELLO then
          c.address, c.port = run:address(pinfo.dst), pinfo.dst_port
        else
          c.address, c.port = run:address(pinfo.src), pinfo.src_port
        end
        handshakes:put(stream, c)
      end
      if kind == CLIENT_HELLO and c and not c.began then
        c.began = relative_ns(pinfo)
        local name = names()
        c.name = name and name.value:lower()
        for _, protocol in ipairs { protocols() } do c.offered[#c.offered + 1] = protocol.value end
      elseif kind == SERVER_HELLO and c and not c.version then
        local version, suite = chosen() or versions(), suites()
        c.version, c.suite = version and version_words(version) or "", suite and suite_words(suite)
        local protocol = protocols()
        c.alpn = protocol and protocol.value
        unfinished[stream] = c
      elseif kind == ENCRYPTED_EXTENSIONS and c then
        local protocol = protocols()
        c.alpn = protocol and protocol.value
      elseif kind == CERTIFICATE and (c or settled) and pinfo.src_port == (c or settled).port then
        local holder, expires = c or settled, expiry()
        if expires and (not holder.expires or expires < holder.expires) then holder.expires = expires end
      end
    end
    c = unfinished[stream]
    if c and pinfo.src_port == c.port then look_for_end(c, pinfo) end
  end, "tcp && tls && !icmp && !icmpv6", layers.unquoted("tcp", "tls"))

  tell_of_unrecognized(run, "tls", function(stream)
    return row_of[stream] ~= nil or handshakes:find(stream) ~= nil
  end)

  of_tcp:listen("tcp", function(pinfo, _, info, virtual, length)
    local stream = info.th_stream
    if virtual or networks.all then stream = of_tcp:key(stream, pinfo, virtual) end
    bytes[stream] = (bytes[stream] or 0) + length
  end)

  return function()
    local result, of = servers:result(run)
    local function add_bytes(row, stream) row.bytes = row.bytes + (bytes[stream] or 0) end
    for stream, row in pairs(row_of) do add_bytes(of(row), stream) end
    for c in handshakes:each() do add_bytes(add_connection(result, c), c.stream) end
    for row in result:each() do
      run:row {
        row.name, row.address, row.port, row.version, row.suite, row.alpn, row.offered, row.connections, row.completed,
        row.bytes, row.timed or 0, row.time or 0, row.least, row.most, row.times, row.expires,
      }
    end
  end
end)
