-- Requests and responses of HTTP/2 and HTTP/3, where each is a stream of a TCP or QUIC connection (http_requests.lua).
--
--     local streams = http_streams.new(run, of_tcp, settle, interim)    -- of_tcp: the run's networks
--     for exchange in streams:each() do ... end    -- those that are still open
--
-- `settle` is called with an exchange of HTTP/2 when both sides have ended it or one has reset it, and with any when too
-- many are open; `interim` with an exchange and a status (100 Continue). An exchange has method, host, target and status (each
-- nil where it was not captured), grpc_status, request_bytes and response_bytes, and the times at which its request began (`began`) and
-- ended (`sent`), and its response ended (`ended`), nil where that was not captured. `is_request` is false where only the
-- response was captured, or where HTTP/1 had the request (`upgraded`).

local sharkstat = require "sharkstat"
local http_frames = require "http_frames"
local rows = require "rows"
local layers = require "layers"
local flows = require "flows"
local server = require "server"
local tell_of_unrecognized = require "unrecognized"

local DATA, HEADERS, RST_STREAM = http_frames.DATA, http_frames.HEADERS, http_frames.RST_STREAM
local PUSH_PROMISE, CONTINUATION = http_frames.PUSH_PROMISE, http_frames.CONTINUATION
local CARRIED = { [DATA] = true, [HEADERS] = true, [PUSH_PROMISE] = true, [CONTINUATION] = true }
local END_STREAM, END_HEADERS = http_frames.END_STREAM, http_frames.END_HEADERS

local function has(flags, bit) return flags % (2 * bit) >= bit end

local http_streams = {}
local Streams = {}
Streams.__index = Streams

function Streams:at(connection, number)
  local key = connection.key .. "/" .. number
  local exchange = self.open:find(key)
  if not exchange then
    exchange = { key = key, request_bytes = 0, response_bytes = 0, is_request = false, flow = connection.flow }
    if number == 1 and connection.upgrade then exchange.entry, connection.upgrade = connection.upgrade, nil end
    self.open:put(key, exchange)
  end
  return exchange
end

-- A block of headers, or as much of it as is there, has come for an exchange.
function Streams:headers(exchange, headers, time)
  if headers[":method"] then
    exchange.method, exchange.is_request, exchange.began = headers[":method"], true, exchange.began or time
  end
  exchange.host = exchange.host or headers[":authority"] or exchange.method and headers.host
  exchange.target = exchange.target or headers[":path"]
  local status = headers[":status"]
  if status and status:find("^%d%d%d$") then exchange.answer = tonumber(status) end
  -- How a gRPC call ended is in its last headers.
  local grpc_status = headers["grpc-status"]
  if grpc_status and grpc_status:find("^%d%d?%d?$") then exchange.grpc_status = tonumber(grpc_status) end
end

-- The first answers of a response may be interim ones.
function Streams:answered(exchange)
  local status = exchange.answer
  exchange.answer = nil
  if not status or exchange.status then return end
  if status >= 100 and status < 200 then
    self.interim(exchange, status)
  else
    exchange.status = status
  end
end

function Streams:finished(exchange)
  if self.open:take(exchange.key) then self.settle(exchange) end
end

-- Whether an earlier packet had the same piece of a stream: tshark reads again what QUIC sends again.
local function came_before(exchange, place, from_client, time)
  local key = from_client and -1 - place or place
  exchange.places = exchange.places or {}
  local before = exchange.places[key]
  exchange.places[key] = before or time
  return before and before ~= time
end

function Streams:frame(connection, frame, time, from_client)
  if frame.kind == RST_STREAM then
    local reset = self.open:find(connection.key .. "/" .. frame.stream)
    return reset and self:finished(reset)
  end
  local exchange = self:at(connection, frame.stream)
  if frame.place and came_before(exchange, frame.place, from_client, time) then return end
  local bytes = from_client and "request_bytes" or "response_bytes"
  exchange[bytes] = exchange[bytes] + frame.length
  local subject = exchange  -- whose headers they are
  if frame.kind == PUSH_PROMISE then
    subject = frame.promised and self:at(connection, frame.promised) or exchange
    connection.promised = subject
    subject.sent = time
  elseif frame.kind == CONTINUATION then
    subject = connection.promised or exchange
  end
  if frame.headers then
    self:headers(subject, frame.headers, time)
    if frame.kind == HEADERS then
      connection.promised = nil
      -- Also where its headers cannot be read, since those that they refer to were not captured.
      if from_client and not exchange.began then exchange.is_request, exchange.began = true, time end
    end
    if has(frame.flags, END_HEADERS) then
      self:answered(subject)
      connection.promised = nil
    end
  end
  local ending = from_client and "sent" or "ended"
  -- QUIC may bring the end first, and the rest later.
  local has_ended = connection.is_quic and exchange[ending]
  if has_ended or ((frame.kind == DATA or frame.kind == HEADERS) and has(frame.flags, END_STREAM)) then
    exchange[ending] = time
  end
  -- What ends a stream may be in a frame before the last of its headers.
  local complete = not connection.is_quic and (frame.kind == DATA or has(frame.flags, END_HEADERS))
  if complete and exchange.ended and (exchange.sent or not exchange.is_request) then self:finished(exchange) end
end

-- Who the server is: the receiver of the connection's preface or of a request, else the sender of a response. Where the
-- headers cannot be read, the ports tell it, and if they do not, the first to open a stream of a client's is the client.
local function find_server(connection, pinfo, frames, magic)
  local by_client, opened = magic, false
  for _, frame in ipairs(frames) do
    if by_client == nil and frame.headers then
      if frame.kind == PUSH_PROMISE or frame.headers[":status"] then
        by_client = false
      elseif frame.headers[":method"] then
        by_client = true
      end
      opened = opened or (frame.stream or 0) % 2 == 1
    end
  end
  if by_client == nil and opened then by_client = server.by_ports(pinfo.src_port, pinfo.dst_port) ~= false end
  if by_client == nil then return end
  connection.port = by_client and pinfo.dst_port or pinfo.src_port
  connection.address = tostring(by_client and pinfo.dst or pinfo.src)
end

function Streams:connection(key)
  local connection = self.connections[key]
  if not connection then
    connection = { key = key }
    self.connections[key] = connection
  end
  return connection
end

function Streams:packet(connection, pinfo, frames, magic)
  connection.flow = connection.flow or flows.of(pinfo)
  if not connection.port then find_server(connection, pinfo, frames, magic) end
  if not connection.port then return end
  local from_client = pinfo.dst_port == connection.port
  if from_client and pinfo.src_port == connection.port then from_client = tostring(pinfo.dst) == connection.address end
  local time = sharkstat.relative_ns(pinfo)
  for _, frame in ipairs(frames) do
    if frame.stream and (CARRIED[frame.kind] or frame.kind == RST_STREAM) then
      self:frame(connection, frame, time, from_client)
    end
  end
end

-- HTTP/1 has agreed to another protocol on this connection. If that is HTTP/2, its first stream is the answer to the
-- request that asked for it: the exchange gets `entry`.
function Streams:upgraded(key, entry) self:connection(key).upgrade = entry end

-- The exchanges that are open; they stay open.
function Streams:each() return self.open:each() end

function http_streams.new(run, of_tcp, settle, interim)
  local self = setmetatable({
    settle = settle, interim = interim, connections = {}, open = rows.requests(run, settle),
  }, Streams)
  local frames_of, magic = http_frames.http2(), sharkstat.field "http2.magic"
  local streams = sharkstat.field "tcp.stream"
  -- tshark's own tap of HTTP/2 leaves out frames in which something is malformed.
  of_tcp:listen("frame", function(pinfo, _, _, virtual)
    local stream = streams()
    if not stream then return end
    local key = of_tcp:key(stream.value, pinfo, virtual)
    self:packet(self:connection(key), pinfo, frames_of(), magic() and true or nil)
  end, "http2 && !icmp && !icmpv6", layers.unquoted "http2")

  tell_of_unrecognized(run, "http2", function(stream) return self.connections[stream] ~= nil end)

  local frames_of_3 = http_frames.http3()
  if not frames_of_3 then
    local unread = 0
    run:listen("frame", function() unread = unread + 1 end, "http3",
      function(path) return layers.has(path, "http3") end)
    run:remark(function()
      if unread == 0 then return nil end
      return ("%.0f HTTP/3 packets are not counted: reading HTTP/3 headers needs tshark 4.4 or later"):format(unread)
    end)
    return self
  end
  local numbers, finals = sharkstat.field "quic.connection.number", sharkstat.field "quic.stream.fin"
  local path_of, moment = layers.reader(), sharkstat.moment
  local function ends_any()
    for _, final in ipairs { finals() } do
      if final.value then return true end
    end
    return false
  end
  run:listen("frame", function(pinfo)
    local number = numbers()
    if not number or not (layers.has(path_of((moment(pinfo))), "http3") or ends_any()) then return end
    local connection = self:connection("quic " .. number.value)
    connection.is_quic = true
    self:packet(connection, pinfo, frames_of_3())
  end, "quic && !icmp && !icmpv6", layers.unquoted "quic")
  return self
end

return http_streams
