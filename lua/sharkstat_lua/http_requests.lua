-- name: http,requests
-- title: HTTP requests
-- description: Which URLs are requested, do the requests succeed, how many bytes do they transfer, and how long do they take?
--     One row per method, host, path and status; requests without a response in the capture have a row without a status.
--     A gRPC call that fails usually has the HTTP status 200: see `grpc_status`.
--     In HTTP/1, responses are matched to the requests of their connection in order. In HTTP/2 (including gRPC) and
--     HTTP/3, each stream is a request with its response. Encrypted traffic is included if tshark has the keys (--keylog
--     or in the capture); HTTP/3 needs tshark 4.4 or later. tshark does not recognize HTTP on every port, and tshark 4.0
--     recognizes HTTP/2 without TLS only on HTTP's ports: a warning names the others, to be used with -d. Interim
--     responses (100 Continue) have rows of their own, without requests; responses whose request was not captured have a
--     row without method, host and path. Bytes are those of the messages, headers and bodies, not of packets. In HTTP/2
--     and HTTP/3 they are the payload of HEADERS, CONTINUATION, PUSH_PROMISE and DATA frames, so headers count
--     compressed, and pushed responses have no request bytes. HTTP over UDP (SSDP) is not included. Times run from the
--     end of the request to the end of the response, or from the start of the request if the server responds before its
--     end. Hosts are converted to lower case.
-- parameter: path full|template full `template` replaces numbers, dates, hashes and the like: /user/17 becomes
--     /user/{n}
-- parameter: query yes|no - include the query string in the path; by default no, but templates include parameter names
-- parameter: max integer 100000 maximum number of rows; further methods, hosts and paths share the row (other)
-- column: method text key
-- column: host text key ; the Host header or :authority, in lower case
-- column: path text key ; path of the request, without the query string; its template with path=template
-- column: status integer key ; empty for requests without a response, or if HTTP/2 headers could not be read
-- column: grpc_status integer key title=gRPC|status ; how a gRPC call ended: 0 OK, 14 UNAVAILABLE; empty if it is none, or has not ended
-- column: requests integer sum
-- column: responses integer sum
-- column: unanswered integer sum ; requests without a response in the capture
-- column: request_bytes integer sum bytes title=Request|bytes ; headers and bodies of the requests
-- column: response_bytes integer sum bytes title=Response|bytes ; headers and bodies of the responses
-- column: timed integer sum hidden ; responses whose request was captured, without interim responses
-- column: time duration sum seconds hidden ; total time from request to response
-- column: min_time duration min seconds title=Min|time ; from request to response
-- column: mean_time duration time/timed seconds title=Mean|time
-- column: p50_time duration p50:times/min_time/max_time seconds title=p50|time
-- column: p95_time duration p95:times/min_time/max_time seconds title=p95|time
-- column: p99_time duration p99:times/min_time/max_time seconds title=p99|time
-- column: max_time duration max seconds title=Max|time
-- column: times set sketch hidden ; sketch of these times: p50, p95 and p99 are within 1 %, and exact for up to 100
-- section: 400 title=HTTP rows=5 arguments=path=template
--     columns=method,host/path=request,status,grpc_status=grpc,requests=count,response_bytes=bytes,mean_time=mean,max_time=max
-- sort: requests descending, responses descending, host, path, method, status
-- field: http
-- field: http.request_in
-- field: tcp.payload
-- field: tcp.stream
-- field: udp.stream
-- field: http2.type
-- field: http2.streamid
-- field: http2.length
-- field: http2.flags
-- field: http2.header.name
-- field: http2.header.value
-- field: http2.push_promise.promised_stream_id
-- field: http2.magic
-- field: http3.frame_type
-- field: http3.frame_length
-- field: http3.frame_streamid
-- field: http3.header.header.name
-- field: http3.headers.header.value
-- field: quic.connection.number
-- field: quic.stream.stream_id
-- field: quic.stream.fin
-- layer: http

package.path = (__DIR__ or debug.getinfo(1, "S").source:match("@(.*[/\\])")) .. "?.lua;" .. package.path
local sharkstat = require "sharkstat"
local rows = require "rows"
local networks = require "networks"
local http_streams = require "http_streams"
local path_template = require "path_template"
local flows = require "flows"
local tell_of_unrecognized = require "unrecognized"

local elapsed, relative_ns = sharkstat.elapsed, sharkstat.relative_ns

-- A row whose keys are nil has responses without a request; the one that rows.lua makes without keys is (other).
local UNKNOWN = {}

-- No client sends more requests ahead: the responses were not captured.
local DEEPEST = 1000

-- How many texts of paths are remembered with what stands for them.
local REMEMBERED = 10000

-- A function that gives what the table has for the target of a request.
local function path_of(parameters)
  local with_query = parameters.query
  if parameters.path ~= "template" then
    if with_query == "yes" then return function(target) return target end end
    return function(target) return target:match("^[^?]*") end
  end
  local known, count = {}, 0
  return function(target)
    local found = known[target]
    if not found then
      if count == REMEMBERED then known, count = {}, 0 end
      found = path_template(target, with_query == "no")
      known[target], count = found, count + 1
    end
    return found
  end
end

-- A status of HTTP is less.
local NUMBERS = 1000

local function new_status()
  return { requests = 0, responses = 0, unanswered = 0, request_bytes = 0, response_bytes = 0 }
end

sharkstat.tap(__FILE__, function(run)
  local messages, request_in = sharkstat.field "http", sharkstat.field "http.request_in"
  local tcp_stream, udp_stream = sharkstat.field "tcp.stream", sharkstat.field "udp.stream"
  local shown = path_of(run.parameters)

  local asked = rows.new(run, function(method, host, path, flow)
    if method == UNKNOWN then return { statuses = {}, flow = flow } end
    return { method = method, host = host, path = path or sharkstat.OTHER, statuses = {}, flow = flow }
  end)

  local function at_status(entry, status, grpc)
    local key = grpc and status + NUMBERS * (grpc + 1) or status
    local found = entry.statuses[key]
    if not found then
      found = new_status()
      found.status, found.grpc = status ~= 0 and status or nil, grpc
      entry.statuses[key] = found
    end
    return found
  end

  local function add_request(request, row)
    row.requests, row.request_bytes = row.requests + 1, row.request_bytes + request.bytes
  end

  local function give_up(request, entry)
    local row = at_status(entry or request.entry, 0)
    add_request(request, row)
    row.unanswered = row.unanswered + 1
  end

  -- The keys of a stream of HTTP/2 or HTTP/3. CONNECT has no path but its host.
  local function exchange_keys(exchange)
    if not exchange.method then return UNKNOWN, nil, nil, exchange.flow end
    local host = exchange.host and exchange.host:lower()
    return exchange.method, host, shown(exchange.target or host or ""), exchange.flow
  end

  -- The requests of a connection that wait, in order: `first` and `last` are the numbers of those that are there.
  local waiting = rows.requests(run, function(queue)
    for number = queue.first, queue.last do give_up(queue[number]) end
  end)

  local function give_up_first(queue)
    give_up(queue[queue.first])
    queue[queue.first] = nil
    queue.first = queue.first + 1
  end

  -- The request that a response answers: the first, save where tshark knows of a later one.
  local function answered(queue, frame)
    local number = queue.first
    while number < queue.last and queue[number].frame ~= frame do number = number + 1 end
    if queue[number].frame == frame then
      while queue.first < number do give_up_first(queue) end
    end
    return queue[queue.first]
  end

  -- Where a message ends, if no other follows: tshark lays it over what is left of the bytes that it was found in, but
  -- from 4.6 on only over its headers where something else dissects the body.
  local payloads = sharkstat.version() >= 4.6 and sharkstat.field "tcp.payload"
  local function end_of(message, tvb)
    local start = message.offset
    if not payloads then return start + message.len end
    local stop = message.source:len()
    if stop ~= tvb:len() then return stop end  -- reassembled, or decrypted
    for _, payload in ipairs { payloads() } do
      local first, behind = payload.offset, payload.offset + payload.len
      if start >= first and start < behind then return behind end
    end
    return stop
  end

  -- How long the messages of the packet are, in order. One ends where the next one in the same bytes begins.
  local packet, nth, lengths = -1, 0, nil
  local function length_of(number, tvb)
    if number == packet then
      nth = nth + 1
    else
      packet, nth, lengths = number, 1, nil
    end
    local first, second = messages()
    if not second then return nth == 1 and first and end_of(first, tvb) - first.offset or 0 end
    if not lengths then
      lengths = {}
      local all = { messages() }
      for index, field in ipairs(all) do
        local start, stop, following = field.offset, end_of(field, tvb), all[index + 1]
        if following and following.offset > start and end_of(following, tvb) == stop then stop = following.offset end
        lengths[index] = stop - start
      end
    end
    return lengths[nth] or 0
  end

  run.reads = { protocols = { "http", "http2", "http3" } }
  -- The TCP connection; nothing for HTTP over UDP.
  local of_tcp = networks.of(run, "tcp")
  networks.watch(run, "tcp", "requests and responses may be missing", nil, true)
  local function connection(pinfo, virtual)
    local stream = tcp_stream()
    if stream then return of_tcp:key(stream.value, pinfo, virtual) end
    return not udp_stream() and "none" or nil
  end

  local function interim(exchange, status)
    local entry = exchange.entry or asked:at(exchange_keys(exchange))
    local row = at_status(entry, status)
    row.responses = row.responses + 1
  end

  -- A stream that is done, or given up. `among` are the rows of a result, where it is for one alone.
  local function settle(exchange, among, of)
    among = among or asked
    local entry = exchange.entry and (of and of(exchange.entry) or exchange.entry) or among:at(exchange_keys(exchange))
    local row = at_status(entry, exchange.status or 0, exchange.grpc_status)
    row.request_bytes = row.request_bytes + exchange.request_bytes
    row.response_bytes = row.response_bytes + exchange.response_bytes
    local answered_at_all = exchange.status or exchange.ended or exchange.response_bytes > 0
    if answered_at_all then row.responses = row.responses + 1 end
    if not exchange.is_request then return end
    row.requests = row.requests + 1
    if not answered_at_all then
      row.unanswered = row.unanswered + 1
    elseif exchange.ended then
      -- A server may answer before it has heard all.
      local sent = exchange.sent
      local from = sent and sent <= exchange.ended and sent or exchange.began
      rows.time_in_sketch(row, elapsed(from, exchange.ended))
    end
  end
  local streams = http_streams.new(run, of_tcp, settle, interim)

  local spoken = {}
  tell_of_unrecognized(run, "http", function(stream) return spoken[stream] end)
  of_tcp:listen("http", function(pinfo, tvb, info, virtual)
    local key = connection(pinfo, virtual)
    if not key then return end
    spoken[key] = true
    local method, status = info.request_method, info.response_code or 0
    local bytes = length_of(pinfo.number, tvb)
    if status ~= 0 then
      local queue = waiting:find(key)
      local frame = queue and queue.first < queue.last and request_in()
      local request = queue and (frame and answered(queue, frame.value) or queue[queue.first])
      if not request then
        local row = at_status(asked:at(UNKNOWN, nil, nil, flows.of(pinfo)), status)
        row.responses, row.response_bytes = row.responses + 1, row.response_bytes + bytes
        return
      end
      local row = at_status(request.entry, status)
      row.responses, row.response_bytes = row.responses + 1, row.response_bytes + bytes
      if status < 200 and status ~= 101 then return end
      if status == 101 then streams:upgraded(key, request.entry) end
      add_request(request, row)
      rows.time_in_sketch(row, sharkstat.elapsed(request.time, relative_ns(pinfo)))
      queue[queue.first] = nil
      queue.first = queue.first + 1
      if queue.first > queue.last then waiting:take(key) end
    elseif method then
      local host = info.http_host
      local request = {
        entry = asked:at(method, host and host:lower(), shown(info.request_uri or ""), flows.of(pinfo)),
        time = relative_ns(pinfo),
        bytes = bytes, frame = pinfo.number,
      }
      local queue = waiting:find(key)
      if queue then
        if queue.last - queue.first >= DEEPEST then give_up_first(queue) end
        queue.last = queue.last + 1
        queue[queue.last] = request
      else
        waiting:put(key, { request, first = 1, last = 1 })
      end
    end
  end)

  return function()
    local result, of = asked:result(run)
    for queue in waiting:each() do
      for number = queue.first, queue.last do give_up(queue[number], of(queue[number].entry)) end
    end
    for exchange in streams:each() do settle(exchange, result, of) end
    for entry in result:each() do
      for _, row in pairs(entry.statuses) do
        run:row {
          entry.method, entry.host, entry.path, row.status, row.grpc, row.requests, row.responses,
          row.unanswered, row.request_bytes, row.response_bytes, row.timed or 0, row.time or 0, row.least, row.most,
          row.times,
          flow = entry.flow,
        }
      end
    end
  end
end)
