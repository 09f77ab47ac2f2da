-- name: traffic
-- title: Traffic
-- description: What is each byte for? Services (as in `services`), by client and request.
--     A packet belongs to the request that it carries, or whose response it carries or acknowledges: all packets of a
--     connection from the start of one request to the start of the next; the TCP handshake belongs to the first. Requests
--     are those of HTTP/1, HTTP/2 (including gRPC), HTTP/3 and DNS. `path` is the template of an HTTP request
--     (docs/path-templates.md) or the queried DNS name, and `status` the result. Packets that tshark considers
--     retransmissions have rows of their own. Every packet is in one row, so the rows add up to the whole capture. A
--     connection counts once, in the row of its first packet. `sharkstat diff` explains changes with this statistic.
-- parameter: max integer 100000 maximum number of rows; the rest goes into the row `(other)`
-- parameter: at duration - split the capture in two, at this time after its first packet
-- column: half integer key hidden; with `at`: 1 before the split, 2 after it
-- column: protocol text key; as in `services`
-- column: server_name text key title="Server name"
-- column: server_address address key title=Server
-- column: server_port integer key title=Port
-- column: transport text key
-- column: client address key; for packets without a connection, the sender; if the server is unknown, one of both ends
-- column: operation text key; HTTP method or DNS record type
-- column: path text key; path template with parameter names, or DNS name
-- column: status text key; HTTP status or DNS response code; empty without a response
-- column: retransmitted boolean key hidden
-- column: connections integer sum title=Connec-|tions
-- column: requests integer sum
-- column: packets integer sum packets
-- column: bytes integer sum bytes share
-- column: parts integer sum hidden; connections with packets in the row (packets, if they have no connection)
-- column: squares number sum hidden; sum of the squares of each part's bytes, for their variance
-- column: products number sum hidden; sum of each part's bytes times those of its whole connection
-- column: first time min hidden; the first packet of the connections that have packets in the row
-- column: last time max hidden; the last one
-- sort: bytes descending, packets descending, protocol, server_name, server_address, server_port, client, operation, path
-- field: frame.protocols
-- field: tcp.stream
-- field: udp.stream
-- field: tcp.flags
-- field: tcp.len
-- field: tcp.analysis.retransmission
-- field: http.host
-- field: http.request.method
-- field: http.request.uri
-- field: http.response.code
-- field: http2.type
-- field: http2.streamid
-- field: http2.length
-- field: http2.flags
-- field: http2.header.name
-- field: http2.header.value
-- field: http2.headers.authority
-- field: http2.push_promise.promised_stream_id
-- field: http3.frame_type
-- field: http3.frame_length
-- field: http3.frame_streamid
-- field: http3.header.header.name
-- field: http3.headers.header.value
-- field: quic.stream.stream_id
-- field: quic.stream.fin
-- field: dns.id
-- field: dns.flags
-- field: dns.qry.name
-- field: dns.qry.type
-- field: tls.handshake.extensions_server_name
-- field: dns.resp.name
-- field: ip.fragment
-- layer: messages

package.path = (__DIR__ or debug.getinfo(1, "S").source:match("@(.*[/\\])")) .. "?.lua;" .. package.path
local sharkstat = require "sharkstat"
local rows = require "rows"
local service_packets = require "service_packets"
local packet_requests = require "packet_requests"

-- What is kept of all connections' requests that are over. Where there are more, all are added to their rows.
local MOST_PIECES = 200000

-- What was counted of a request, or of a connection without one: for each half of the capture, packets and bytes of
-- what was sent first and of what was sent again.
local PACKETS, BYTES, PACKETS_AGAIN, BYTES_AGAIN, WIDTH = 1, 2, 3, 4, 4

local function new_row(half, protocol, name, address, port, transport, client, operation, path, status, again)
  return {
    half = half, protocol = protocol or sharkstat.OTHER, name = name, address = address, port = port, transport = transport,
    client = client, operation = operation, path = path, status = status, again = again or false,
    connections = 0, requests = 0, packets = 0, bytes = 0, parts = 0, squares = 0, products = 0,
    first = math.huge, last = -math.huge,
  }
end

-- A function that says whether tshark takes a packet of TCP for a retransmission. It compares the segments of several VLANs,
-- too: there (`mixed`) nothing is taken for one.
local function retransmissions(mixed)
  local analysed = sharkstat.field "tcp.analysis.flags"
  local again = {
    sharkstat.field "tcp.analysis.retransmission", sharkstat.field "tcp.analysis.spurious_retransmission",
    sharkstat.field "tcp.analysis.fast_retransmission",
  }
  local streams = sharkstat.field "tcp.stream"
  return function(path)
    if not analysed() then return false end
    if path.virtual and mixed[select(-1, streams()).value] then return false end
    for index = 1, #again do
      if again[index]() then return true end
    end
    return false
  end
end

sharkstat.tap(__FILE__, function(run)
  local at = run.parameters.at
  local traffic, walk = rows.new(run, new_row), service_packets.new(run)
  local is_again = retransmissions(walk.networks.tcp.mixed)

  -- Pieces: what is kept of a connection, by what was asked and answered.
  local pieces = 0
  local function merge(known, order, request)
    local key = ("%s %s %s"):format(request.operation or "", request.status or "", request.path or "")
    local piece = known[key]
    if not piece then
      piece = { operation = request.operation, path = request.path, status = request.status, requests = { 0, 0 } }
      for slot = 1, 2 * WIDTH do piece[slot] = 0 end
      known[key], order[#order + 1] = piece, piece
    end
    for slot = 1, 2 * WIDTH do piece[slot] = piece[slot] + request[slot] end
    if request.requests then
      for half = 1, 2 do piece.requests[half] = piece.requests[half] + request.requests[half] end
    elseif request.asked then
      piece.requests[request.asked] = piece.requests[request.asked] + 1
    end
  end

  local requests = packet_requests.new(2 * WIDTH, function(c, request)
    local before = #c.order
    merge(c.pieces, c.order, request)
    pieces = pieces + #c.order - before
  end)

  -- Adds a piece to a row, as so many parts: one for what a connection has in it, or all of its packets.
  local function add(row, parts, packets, bytes, whole, first, last)
    if first < row.first then row.first = first end
    if last > row.last then row.last = last end
    row.packets, row.bytes = row.packets + packets, row.bytes + bytes
    row.parts, row.squares = row.parts + parts, row.squares + bytes * bytes / parts
    row.products = row.products + bytes * whole
  end

  local function settle_one(c, service, among)
    local client
    if service.second ~= nil then
      client = service.second and c.a or c.b
    else  -- one of the ends, the same in every capture
      client = c.a < c.b and c.a or c.b
    end
    local known, order, begun, otherwise = {}, {}, c.begun, nil
    for _, piece in ipairs(c.order) do merge(known, order, piece) end
    requests:each(c, function(request) merge(known, order, request) end)
    local function row_of(half, piece, again)
      local row = among:at(at and half or nil, service.protocol, service.name, service.address, service.port, c.kind,
                           client, piece.operation, piece.path, piece.status, again)
      if begun == half then
        if again then
          otherwise = otherwise or row
        else
          row.connections, begun = row.connections + 1, nil
        end
      end
      return row
    end
    for half = 1, 2 do
      local from, whole, first, last = (half - 1) * WIDTH, 0, c.first_of[half], c.last_of[half]
      for _, piece in ipairs(order) do whole = whole + piece[from + BYTES] + piece[from + BYTES_AGAIN] end
      for _, piece in ipairs(order) do
        local packets, bytes, count = piece[from + PACKETS], piece[from + BYTES], piece.requests[half]
        if packets > 0 or count > 0 then
          local row = row_of(half, piece, false)
          add(row, 1, packets, bytes, whole, first, last)
          row.requests = row.requests + count
        end
        packets, bytes = piece[from + PACKETS_AGAIN], piece[from + BYTES_AGAIN]
        if packets > 0 then add(row_of(half, piece, true), packets, packets, bytes, whole, first, last) end
      end
    end
    if begun and otherwise then otherwise.connections = otherwise.connections + 1 end
  end

  -- Adds to the rows what connections have.
  local function settle(among, for_good)
    for c, told in walk:services() do
      local service = c.settled or told
      settle_one(c, service, among)
      if for_good then  -- they begin anew, and keep the service that they have now
        c.settled, c.begun, c.pieces, c.order = service, nil, {}, {}
        requests:each(c, function(request)
          for slot = 1, 2 * WIDTH do request[slot] = 0 end
          request.asked = nil
        end)
      end
    end
    if for_good then pieces = 0 end
  end

  walk.reads_requests = true
  function walk:full() settle(traffic, true) end

  -- Each packet of no connection is a part by itself.
  function walk:alone(among, protocol, sum, pinfo)
    local sender = pinfo and run:address(pinfo.src) or sum.sender
    if sender == "" then sender = nil end
    local half = (at and sum.last >= at) and 2 or 1
    local row = among:at(at and half or nil, protocol, nil, nil, nil, nil, sender, nil, nil, nil, false)
    add(row, sum.packets, sum.packets, sum.bytes, sum.bytes / sum.packets, sum.first, sum.last)
  end

  function walk:met(c, sum)
    c.pieces, c.order, c.begun = {}, {}, (at and sum.last >= at) and 2 or 1
    c.first_of, c.last_of = {}, {}
    requests:open(c)
  end

  function walk:packet(c, path, pinfo, sum)
    local half = (at and sum.last >= at) and 2 or 1
    local request = requests:of(c, path, half, self:from_first(c, pinfo))
    local from = (half - 1) * WIDTH + (c.kind == "tcp" and is_again(path) and PACKETS_AGAIN - PACKETS or 0)
    local first, last = c.first_of[half], c.last_of[half]
    if not first or sum.first < first then c.first_of[half] = sum.first end
    if not last or sum.last > last then c.last_of[half] = sum.last end
    request[from + PACKETS] = request[from + PACKETS] + sum.packets
    request[from + BYTES] = request[from + BYTES] + sum.bytes
    if pieces > MOST_PIECES then settle(traffic, true) end
  end

  walk:listen(traffic)

  return function()
    local result = traffic:result(run)
    settle(result)
    walk:let_go(result)
    for row in result:each() do
      run:row {
        row.half, row.protocol, row.name, row.address, row.port, row.transport, row.client, row.operation, row.path,
        row.status, row.again, row.connections, row.requests, row.packets, row.bytes, row.parts, row.squares,
        row.products, row.first, row.last,
      }
    end
  end
end)
