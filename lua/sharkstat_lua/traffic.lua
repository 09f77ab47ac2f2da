-- name: traffic
-- title: Traffic
-- description: What is every byte for? Services (as in `services`), by client and by what is asked for.
--     A packet belongs to the request that it carries, or whose answer it carries or acknowledges: all packets of a
--     connection from a request's first to the next request's, those of the handshake to the first. Requests are those
--     of HTTP/1, HTTP/2 (gRPC too), HTTP/3 and DNS; `path` is an HTTP request's template (docs/path-templates.md) or the
--     name that DNS is asked for, and `status` what came back. A packet that tshark takes for a retransmission has a row of
--     its own kind. Every packet is in one row, so all rows add up to the packets and bytes that were read, and so do
--     the rows of any service, client or request. A connection counts once, where its first packet does. Once there are
--     `max` rows, all further ones share the row `(other)`. This is what `sharkstat diff` explains changes with.
-- parameter: max integer 100000 rows; everything beyond is in the row `(other)`
-- parameter: at duration - cuts the capture in two, so long after its first packet
-- column: half integer key hidden; with `at`: 1 before the cut, 2 after it
-- column: protocol text key; as in `services`
-- column: server_name text key
-- column: server_address address key
-- column: server_port integer key
-- column: transport text key
-- column: client address key; who asks; of packets without connections, the sender
-- column: operation text key; an HTTP method, or the type of records that DNS is asked for
-- column: path text key; a template, with the names of parameters; or a name in DNS
-- column: status text key; an HTTP status or a response code of DNS; none where nobody answered
-- column: retransmitted boolean key hidden
-- column: connections integer sum
-- column: requests integer sum
-- column: packets integer sum packets
-- column: bytes integer sum bytes share
-- column: parts integer sum hidden; connections that have packets in the row; packets where there are no connections
-- column: squares number sum hidden; of the bytes of each of these parts: how much they differ
-- column: products number sum hidden; of the bytes of each of these parts and those of its whole connection
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
local server = require "server"
local layers = require "layers"
local naming = require "service_names"
local path_template = require "path_template"
local http_frames = require "http_frames"

local moment = sharkstat.moment

-- Connections that are followed, and what is kept of all their requests. Where there are more, all are added to their
-- rows by what is known of them so far.
local MOST_CONNECTIONS = 100000
local MOST_PIECES = 200000
local MOST_PATHS = 10000
local MOST_FRAGMENTS = 10000
-- Requests under way on one connection; more were not answered in this capture.
local MOST_WAITING = 1000
local LONGEST = 255

local CODES = {
  [0] = "NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED", "YXDOMAIN", "YXRRSET", "NXRRSET", "NOTAUTH",
  "NOTZONE", "DSOTYPENI",
}
local TYPES = {
  [1] = "A", [2] = "NS", [5] = "CNAME", [6] = "SOA", [12] = "PTR", [15] = "MX", [16] = "TXT", [28] = "AAAA",
  [33] = "SRV", [43] = "DS", [48] = "DNSKEY", [64] = "SVCB", [65] = "HTTPS", [255] = "ANY",
}

-- What was counted of a request, or of a connection without one: for each half of the capture, packets and bytes of
-- what was sent first and of what was sent again.
local PACKETS, BYTES, PACKETS_AGAIN, BYTES_AGAIN, WIDTH = 1, 2, 3, 4, 4

local function new_request(operation, path)
  local request = { operation = operation, path = path, status = nil, asked = nil }
  for at = 1, 2 * WIDTH do request[at] = 0 end
  return request
end

local function add(to, from)
  for at = 1, 2 * WIDTH do to[at] = to[at] + from[at] end
end

local function new_row(half, protocol, name, address, port, transport, client, operation, path, status, again)
  return {
    half = half, protocol = protocol or sharkstat.OTHER, name = name, address = address, port = port, transport = transport,
    client = client, operation = operation, path = path, status = status, again = again or false,
    connections = 0, requests = 0, packets = 0, bytes = 0, parts = 0, squares = 0, products = 0,
  }
end

local function shortened(text) return #text > LONGEST and text:sub(1, LONGEST) .. "..." or text end

sharkstat.tap(__FILE__, function(run)
  local at = run.parameters.at
  local path_field, lengths = sharkstat.field "frame.protocols", sharkstat.field "tcp.len"
  local analysed = sharkstat.field "tcp.analysis.flags"
  local again = {
    sharkstat.field "tcp.analysis.retransmission", sharkstat.field "tcp.analysis.spurious_retransmission",
    sharkstat.field "tcp.analysis.fast_retransmission",
  }
  local methods, targets = sharkstat.field "http.request.method", sharkstat.field "http.request.uri"
  local codes = sharkstat.field "http.response.code"
  local frames_2, frames_3 = http_frames.http2(), http_frames.http3()
  local ids, flags = sharkstat.field "dns.id", sharkstat.field "dns.flags"
  local asked_names, asked_types = sharkstat.field "dns.qry.name", sharkstat.field "dns.qry.type"
  local fragments = { sharkstat.field "ip.fragment", sharkstat.field "ipv6.fragment" }
  local names, learn = naming.address_book()
  local own_name = naming.of_connection()
  local book = server.book(run, MOST_CONNECTIONS, true)
  local traffic = rows.new(run, new_row)

  local paths, path_count = {}, 0
  local function path_of(text)
    if path_count == MOST_PATHS then paths, path_count = {}, 0 end
    local path = layers.read(text)
    paths[text], path_count = path, path_count + 1
    return path
  end

  local templates, template_count = {}, 0
  local function template(target)
    local known = templates[target]
    if known then return known end
    if template_count == MOST_PATHS then templates, template_count = {}, 0 end
    known = shortened(path_template(target))
    templates[target], template_count = known, template_count + 1
    return known
  end

  -- Pieces: what is kept of a connection, by what was asked and answered.
  local pieces = 0
  local function key_of(request)
    return ("%s %s %s"):format(request.operation or "", request.status or "", request.path or "")
  end

  local function merge(known, order, request)
    local key = key_of(request)
    local piece = known[key]
    if not piece then
      piece = new_request(request.operation, request.path)
      piece.status, piece.requests = request.status, { 0, 0 }
      known[key], order[#order + 1] = piece, piece
      pieces = pieces + 1
    end
    add(piece, request)
    if request.requests then
      for half = 1, 2 do piece.requests[half] = piece.requests[half] + request.requests[half] end
    elseif request.asked then
      piece.requests[request.asked] = piece.requests[request.asked] + 1
    end
  end

  local function close(c, request) merge(c.pieces, c.order, request) end

  -- The requests to which packets may still be added.
  local function each_open(c, call)
    for number = c.first, c.last do call(c.queue[number]) end
    for _, request in pairs(c.by_id) do call(request) end
    if c.current and not c.current.waiting then call(c.current) end
    if c.held then call(c.held) end
  end

  -- Adds to the rows what connections have. With `forget` they begin anew, and keep the service that they have now.
  local function settle(batch, among, forget)
    local told = naming.identify(book, batch, names)
    for index, c in ipairs(batch) do
      local service = c.service or told[index]
      local client
      if service.second ~= nil then client = service.second and c.a or c.b end
      local function row_of(half, piece, resent)
        return among:at(at and half or nil, service.protocol, service.name, service.address, service.port, c.kind,
                        client, piece.operation, piece.path, piece.status, resent)
      end
      local known, order, begun = {}, {}, c.begun
      local before = pieces
      for _, piece in ipairs(c.order) do merge(known, order, piece) end
      each_open(c, function(request) merge(known, order, request) end)
      pieces = before
      local whole = { 0, 0 }
      for _, piece in ipairs(order) do
        whole[1] = whole[1] + piece[BYTES] + piece[BYTES_AGAIN]
        whole[2] = whole[2] + piece[WIDTH + BYTES] + piece[WIDTH + BYTES_AGAIN]
      end
      for _, piece in ipairs(order) do
        for half = 1, 2 do
          local from = (half - 1) * WIDTH
          local packets, bytes, requests = piece[from + PACKETS], piece[from + BYTES], piece.requests[half]
          if packets > 0 or requests > 0 then
            local row = row_of(half, piece, false)
            row.packets, row.bytes, row.requests = row.packets + packets, row.bytes + bytes, row.requests + requests
            row.parts, row.squares = row.parts + 1, row.squares + bytes * bytes
            row.products = row.products + bytes * whole[half]
            if begun == half then
              row.connections, begun = row.connections + 1, nil
            end
          end
          packets, bytes = piece[from + PACKETS_AGAIN], piece[from + BYTES_AGAIN]
          if packets > 0 then
            local row = row_of(half, piece, true)
            row.packets, row.bytes = row.packets + packets, row.bytes + bytes
            row.parts, row.squares = row.parts + packets, row.squares + bytes * bytes / packets
            row.products = row.products + bytes * whole[half]
            if begun == half and #order == 1 then
              row.connections, begun = row.connections + 1, nil
            end
          end
        end
      end
      if forget then
        c.service, c.begun, c.pieces, c.order = service, begun, {}, {}
        each_open(c, function(request)
          for slot = 1, 2 * WIDTH do request[slot] = 0 end
          request.asked = nil
        end)
      end
    end
  end

  local met = {}
  local function make_room()
    settle(met, traffic, true)
    pieces = 0
  end
  function book.full()
    make_room()
    met, book.room = {}, MOST_CONNECTIONS
  end

  ---------------------------------------------------------------------------------------------------
  -- Which request a packet belongs to

  local function set_current(c, request)
    local before = c.current
    if before and before ~= request and not before.waiting then close(c, before) end
    c.current = request
    return request
  end

  -- A request begins: what was held of its connection is its own.
  local function begin(c, request, half, from_first)
    request.asked, request.waiting, request.from_first = half, true, from_first
    if c.held then
      add(request, c.held)
      c.held = nil
    end
    return set_current(c, request)
  end

  local function finish(c, request, status)
    request.waiting = false
    request.status = status
    if c.held then
      add(request, c.held)
      c.held = nil
    end
    return set_current(c, request)
  end

  local function take_first(c)
    local request = c.queue[c.first]
    if request then
      c.queue[c.first], c.first = nil, c.first + 1
    end
    return request
  end

  local function of_http(c, half, from_first)
    local chosen
    local all = { methods() }
    if #all > 0 then
      local asked_for = { targets() }
      for index, method in ipairs(all) do
        local target = asked_for[index]
        local request = begin(c, new_request(method.value, target and template(target.value)), half, from_first)
        if c.last - c.first >= MOST_WAITING then
          local forgotten = take_first(c)
          forgotten.waiting = false
          close(c, forgotten)
        end
        c.last = c.last + 1
        c.queue[c.last] = request
        chosen = chosen or request
      end
      return chosen
    end
    for _, code in ipairs { codes() } do
      local status = code.value
      local request = c.queue[c.first]
      if request and status < 200 and status ~= 101 then
        chosen = request
      elseif request then
        take_first(c)
        finish(c, request, ("%d"):format(status))
        chosen = request  -- of several the last: the others are closed
      end
    end
    return chosen
  end

  local function remember(c, id, request)
    c.ids = c.ids + 1
    if c.ids > MOST_WAITING then
      for _, old in pairs(c.by_id) do
        old.waiting = false
        if old ~= c.current then close(c, old) end
      end
      c.by_id, c.ids = {}, 1
    end
    c.by_id[id] = request
  end

  -- HTTP/2 and HTTP/3: the headers that open a stream are a request, those of the other end its answer. gRPC says in
  -- the last headers how a call went, where HTTP says that all is well.
  local function of_frames(c, frames, half, from_first)
    local chosen
    for _, frame in ipairs(frames) do
      local request = frame.stream and c.by_id[frame.stream]
      local headers = frame.headers
      if frame.stream and headers then
        local method, target, status = headers[":method"], headers[":path"], headers[":status"]
        if method and not request then
          request = begin(c, new_request(method, target and template(target)), half, from_first)
          remember(c, frame.stream, request)
        elseif request and status and not status:find("^1%d%d$") then
          request.status = request.status or shortened(status)
        end
        local outcome = headers["grpc-status"]
        if request and outcome and outcome ~= "0" then request.status = "grpc-status " .. shortened(outcome) end
      end
      chosen = chosen or request
    end
    return chosen and set_current(c, chosen)
  end

  local function of_dns(c, half, from_first)
    local id, bits, name = ids(), flags(), asked_names()
    if not id or not bits then return nil end
    id, bits = id.value, bits.value
    local request = c.by_id[id]
    local kind = asked_types()
    kind = kind and (TYPES[kind.value] or ("%d"):format(kind.value))
    if bits < 0x8000 then
      if request then  -- asked again: the first was not answered
        request.waiting = false
        if request ~= c.current then close(c, request) end
      end
      request = begin(c, new_request(kind, name and shortened(name.value:lower())), half, from_first)
      remember(c, id, request)
      return request
    end
    local code = CODES[bits % 16] or ("%d"):format(bits % 16)
    if request then
      c.by_id[id], c.ids = nil, c.ids - 1
    else
      request = new_request(kind, name and shortened(name.value:lower()))
    end
    return finish(c, request, code)
  end

  -- A packet that tells nothing of requests: it belongs to the one under way, or it begins the next.
  local function of_others(c, from_first, payload)
    if c.held then return c.held end
    local request = c.queue[c.first] or c.current
    if not request or (payload and c.first > c.last and not request.waiting and from_first == request.from_first) then
      c.held = new_request()
      return c.held
    end
    return request
  end

  local function request_of(c, path, half, from_first)
    local request
    if path.holds.http2 and frames_2 then
      request = of_frames(c, frames_2(), half, from_first)
    elseif path.holds.http3 and frames_3 then
      request = of_frames(c, frames_3(), half, from_first)
    elseif path.holds.http then
      request = of_http(c, half, from_first)
    elseif path.holds.dns then
      request = of_dns(c, half, from_first)
    end
    if request then return request end
    local payload = false
    if c.kind == "tcp" then
      for _, length in ipairs { lengths() } do payload = length.value > 0 end
    end
    return of_others(c, from_first, payload)
  end

  local function is_again()
    if not analysed() then return false end
    for index = 1, #again do
      if again[index]() then return true end
    end
    return false
  end

  ---------------------------------------------------------------------------------------------------

  -- Packets of no connection: each is a part by itself.
  local function count(row, packets, bytes)
    row.packets, row.bytes = row.packets + packets, row.bytes + bytes
    row.parts, row.squares = row.parts + packets, row.squares + bytes * bytes / packets
    row.products = row.products + bytes * bytes / packets
  end

  -- Fragments wait for the packet in which their datagram is whole, by their packet's number.
  local held, held_count = {}, 0
  local function let_go(among)
    for _, fragment in pairs(held) do
      local half = at and fragment.half or nil
      local row = among:at(half, fragment.protocol, nil, nil, nil, nil, fragment.sender, nil, nil, nil, false)
      count(row, 1, fragment.length)
    end
  end

  local function completed()
    local packets, bytes = 0, 0
    for _, field in ipairs(fragments) do
      for _, found in ipairs { field() } do
        local fragment = held[found.value]
        if fragment then
          packets, bytes = packets + 1, bytes + fragment.length
          held[found.value] = nil
          held_count = held_count - 1
        end
      end
    end
    return packets, bytes
  end

  local function sender_of(pinfo)
    local sender = run:address(pinfo.src)
    return sender ~= "" and sender or nil
  end

  run:listen("frame", function(pinfo)
    local text = path_field().value
    local path = paths[text] or path_of(text)
    local number, length, time = moment(pinfo)
    local half = (at and time >= at) and 2 or 1
    if path.fragment then
      if held_count == MOST_FRAGMENTS then
        let_go(traffic)
        held, held_count = {}, 0
      end
      held[number] = { protocol = path.protocol, length = length, half = half, sender = sender_of(pinfo) }
      held_count = held_count + 1
      return
    end
    local packets, bytes = 1, length
    if held_count > 0 then
      local more, size = completed()
      packets, bytes = packets + more, bytes + size
    end
    if path.holds.dns then learn() end
    if not path.transport then
      local sender = sender_of(pinfo)
      return count(traffic:at(at and half or nil, path.protocol, nil, nil, nil, nil, sender, nil, nil, nil, false), packets,
                   bytes)
    end
    local c = book:of(pinfo, path.transport, number)
    if not c.order then
      c.pieces, c.order, c.queue, c.first, c.last, c.by_id, c.ids = {}, {}, {}, 1, 0, {}, 0
      c.begun = half
      c.name_a, c.name_b = names[c.a], names[c.b]
      met[#met + 1] = c
    end
    local from_first = book:from_first(c, pinfo)
    if path.above and not c.service then
      if c.second_serves == nil then
        for _, protocol in ipairs(path.above) do book:look(c, pinfo, protocol) end
      end
      if not c.name then c.name = own_name(path) end
      layers.note(c, path)
    end
    local request = request_of(c, path, half, from_first)
    local from = (half - 1) * WIDTH + (c.kind == "tcp" and is_again() and PACKETS_AGAIN - PACKETS or 0)
    request[from + PACKETS] = request[from + PACKETS] + packets
    request[from + BYTES] = request[from + BYTES] + bytes
    if pieces > MOST_PIECES then make_room() end
  end)

  return function()
    local result = traffic:result(run)
    settle(met, result)
    let_go(result)
    for row in result:each() do
      run:row {
        row.half, row.protocol, row.name, row.address, row.port, row.transport, row.client, row.operation, row.path,
        row.status, row.again, row.connections, row.requests, row.packets, row.bytes, row.parts, row.squares,
        row.products,
      }
    end
  end
end)
