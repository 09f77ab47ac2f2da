-- Requests and responses of HTTP/2, where each is a stream of a TCP connection (http_requests.lua).
--
--     local streams = http_streams.new(run, bound, settle, interim)
--     for exchange in streams:each() do ... end    -- those that are still open
--
-- `settle` is called with an exchange when both sides have ended it, when one has reset it, or when more than `bound`
-- are open; `interim` with an exchange and a status (100 Continue). An exchange has method, host, target and status (each
-- nil where it was not captured), request_bytes and response_bytes, and the times at which its request began (`began`) and
-- ended (`sent`), and its response ended (`ended`), nil where that was not captured. `is_request` is false where only the
-- response was captured, or where HTTP/1 had the request (`upgraded`).

local sharkstat = require "sharkstat"
local rows = require "rows"

local DATA, HEADERS, RST_STREAM, PUSH_PROMISE, CONTINUATION = 0, 1, 3, 5, 9
local BLOCKS = { [HEADERS] = true, [PUSH_PROMISE] = true, [CONTINUATION] = true }
local CARRIED = { [DATA] = true, [HEADERS] = true, [PUSH_PROMISE] = true, [CONTINUATION] = true }
local END_STREAM, END_HEADERS = 0x1, 0x4

local function has(flags, bit) return flags % (2 * bit) >= bit end

local http_streams = {}
local Streams = {}
Streams.__index = Streams

-- What the frames of a packet are, in order: kind, stream, length, flags, and the headers of those with a part of a block.
local function reader()
  local kinds, numbers = sharkstat.field "http2.type", sharkstat.field "http2.streamid"
  local lengths, flags = sharkstat.field "http2.length", sharkstat.field "http2.flags"
  local promised = sharkstat.field "http2.push_promise.promised_stream_id"
  local names, values = sharkstat.field "http2.header.name", sharkstat.field "http2.header.value"

  -- The fields of several blocks cannot be told apart by their places, since each block is unpacked into bytes of its
  -- own. But those of a frame follow its type in the tree.
  local function deal_out(frames)
    local at, name = 0, nil
    for _, info in ipairs { all_field_infos() } do
      local field = info.name
      if field == "http2.type" then
        at = at + 1
      elseif field == "http2.header.name" then
        name = info.value
      elseif field == "http2.header.value" and name and frames[at] and frames[at].headers then
        frames[at].headers[name] = info.value
      end
    end
  end

  return function()
    local all_numbers, all_lengths, all_flags = { numbers() }, { lengths() }, { flags() }
    local frames, blocks, block = {}, 0, nil
    for index, kind in ipairs { kinds() } do
      local number, length, bits = all_numbers[index], all_lengths[index], all_flags[index]
      if not (number and length and bits) then break end  -- cut short
      local frame = { kind = kind.value, stream = number.value, length = length.value, flags = bits.value }
      frames[index] = frame
      if BLOCKS[frame.kind] then blocks, block, frame.headers = blocks + 1, frame, {} end
    end
    if blocks == 1 then
      local all_values = { values() }
      for index, name in ipairs { names() } do
        block.headers[name.value] = all_values[index] and all_values[index].value
      end
    elseif blocks > 1 then
      deal_out(frames)
    end
    if blocks > 0 then
      local all_promised, at = { promised() }, 0
      for _, frame in ipairs(frames) do
        if frame.kind == PUSH_PROMISE then
          at = at + 1
          frame.promised = all_promised[at] and all_promised[at].value
        end
      end
    end
    return frames
  end
end

function Streams:at(connection, number)
  local key = connection.key .. "/" .. number
  local exchange = self.open:find(key)
  if not exchange then
    exchange = { key = key, request_bytes = 0, response_bytes = 0, is_request = false }
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
  if headers[":status"] then
    exchange.answer = tonumber(headers[":status"])
  end
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

function Streams:frame(connection, frame, time, from_client)
  if frame.kind == RST_STREAM then
    local reset = self.open:find(connection.key .. "/" .. frame.stream)
    return reset and self:finished(reset)
  end
  local exchange = self:at(connection, frame.stream)
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
  if (frame.kind == DATA or frame.kind == HEADERS) and has(frame.flags, END_STREAM) then
    if from_client then exchange.sent = time else exchange.ended = time end
  end
  -- What ends a stream may be in a frame before the last of its headers.
  local complete = frame.kind == DATA or has(frame.flags, END_HEADERS)
  if complete and exchange.ended and (exchange.sent or not exchange.is_request) then self:finished(exchange) end
end

-- Who the client is: the sender of the connection's preface or of a request, else the receiver of a response.
local function find_client(connection, pinfo, frames, magic)
  local is_sender = magic
  for _, frame in ipairs(frames) do
    if is_sender == nil and frame.headers then
      if frame.kind == PUSH_PROMISE or frame.headers[":status"] then
        is_sender = false
      elseif frame.stream % 2 == 1 then
        is_sender = true
      end
    end
  end
  if is_sender == nil then return end
  connection.port = is_sender and pinfo.src_port or pinfo.dst_port
  connection.address = tostring(is_sender and pinfo.src or pinfo.dst)
end

function Streams:connection(key)
  local connection = self.connections[key]
  if not connection then
    connection = { key = key }
    self.connections[key] = connection
  end
  return connection
end

function Streams:packet(key, pinfo, frames, magic)
  local connection = self:connection(key)
  if not connection.port then find_client(connection, pinfo, frames, magic) end
  if not connection.port then return end
  local from_client = pinfo.src_port == connection.port
  if from_client and pinfo.dst_port == connection.port then from_client = tostring(pinfo.src) == connection.address end
  local time = sharkstat.relative_ns(pinfo)
  for _, frame in ipairs(frames) do
    if frame.stream > 0 and (CARRIED[frame.kind] or frame.kind == RST_STREAM) then
      self:frame(connection, frame, time, from_client)
    end
  end
end

-- HTTP/1 has agreed to another protocol on this connection. If that is HTTP/2, its first stream is the answer to the
-- request that asked for it: the exchange gets `entry`.
function Streams:upgraded(key, entry) self:connection(key).upgrade = entry end

-- The exchanges that are open; they stay open.
function Streams:each() return self.open:each() end

function http_streams.new(run, bound, settle, interim)
  local self = setmetatable({
    settle = settle, interim = interim, connections = {}, open = rows.waiting(bound, settle),
  }, Streams)
  local frames_of, magic = reader(), sharkstat.field "http2.magic"
  local streams = sharkstat.field "tcp.stream"
  local last
  run:listen("http2", function(pinfo)  -- called once a frame
    if pinfo.number == last then return end
    last = pinfo.number
    local stream = streams()
    if stream then self:packet(stream.value, pinfo, frames_of(), magic() and true or nil) end
  end)
  return self
end

return http_streams
