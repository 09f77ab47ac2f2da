-- Which request each packet of a connection is for (traffic.lua): those of HTTP/1, HTTP/2 (gRPC too), HTTP/3 and DNS.
--
--     local requests = packet_requests.new(8, function(c, request) ... end)
--     requests:open(c)                                     -- before a connection's first packet
--     local request = requests:of(c, path, half, from_first)
--     requests:each(c, function(request) ... end)          -- those to which packets may still be added
--
-- A request has so many counters, by number, 0 at first; what was held of a connection before its next request began is added
-- to that. Packets of no request have one, too, without `operation` and `path`. Its `status` is nil while it was not answered,
-- and `asked` is the half in which it was sent, nil where that was not captured. The function that was given is called with
-- a connection and each of its requests that is over.

local sharkstat = require "sharkstat"
local path_template = require "path_template"
local http_frames = require "http_frames"

-- Requests under way on one connection; more were not answered in this capture.
local MOST_WAITING = 1000
local MOST_TEMPLATES = 10000
local LONGEST = 255

local CODES = {
  [0] = "NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED", "YXDOMAIN", "YXRRSET", "NXRRSET", "NOTAUTH",
  "NOTZONE", "DSOTYPENI",
}
local TYPES = {
  [1] = "A", [2] = "NS", [5] = "CNAME", [6] = "SOA", [12] = "PTR", [15] = "MX", [16] = "TXT", [28] = "AAAA",
  [33] = "SRV", [43] = "DS", [48] = "DNSKEY", [64] = "SVCB", [65] = "HTTPS", [255] = "ANY",
}

local packet_requests = {}
local Requests = {}
Requests.__index = Requests

local function shortened(text) return #text > LONGEST and text:sub(1, LONGEST) .. "..." or text end

function packet_requests.new(counters, over)
  local made = setmetatable({ counters = counters, over = over, templates = {}, template_count = 0 }, Requests)
  made.methods, made.targets = sharkstat.field "http.request.method", sharkstat.field "http.request.uri"
  made.codes = sharkstat.field "http.response.code"
  made.frames_2, made.frames_3 = http_frames.http2(), http_frames.http3()
  made.ids, made.flags = sharkstat.field "dns.id", sharkstat.field "dns.flags"
  made.asked_names, made.asked_types = sharkstat.field "dns.qry.name", sharkstat.field "dns.qry.type"
  made.lengths = sharkstat.field "tcp.len"
  return made
end

function Requests:make(operation, path)
  local request = { operation = operation, path = path, status = nil, asked = nil }
  for at = 1, self.counters do request[at] = 0 end
  return request
end

-- Of a connection: `queue` has the requests of HTTP/1 that wait for their response, from number `first` to `last`; `by_id`
-- those of streams and of DNS; `current` is the one of the packet before, and `held` what waits for the next to begin.
function Requests:open(c)
  c.queue, c.first, c.last, c.by_id, c.ids = {}, 1, 0, {}, 0
end

function Requests:each(c, call)
  for number = c.first, c.last do call(c.queue[number]) end
  for _, request in pairs(c.by_id) do call(request) end
  if c.current and not c.current.waiting then call(c.current) end
  if c.held then call(c.held) end
end

function Requests:set_current(c, request)
  local before = c.current
  if before and before ~= request and not before.waiting then self.over(c, before) end
  c.current = request
  return request
end

function Requests:take_held(c, request)
  if not c.held then return end
  for at = 1, self.counters do request[at] = request[at] + c.held[at] end
  c.held = nil
end

function Requests:begin(c, request, half, from_first)
  request.asked, request.waiting, request.from_first = half, true, from_first
  self:take_held(c, request)
  return self:set_current(c, request)
end

function Requests:finish(c, request, status)
  request.waiting, request.status = false, status
  self:take_held(c, request)
  return self:set_current(c, request)
end

-- HTTP/1: responses come in the order of the requests ------------------------------------------------------

local function take_first(c)
  local request = c.queue[c.first]
  if request then
    c.queue[c.first], c.first = nil, c.first + 1
  end
  return request
end

function Requests:template(target)
  local known = self.templates[target]
  if known then return known end
  if self.template_count == MOST_TEMPLATES then self.templates, self.template_count = {}, 0 end
  known = shortened(path_template(target))
  self.templates[target], self.template_count = known, self.template_count + 1
  return known
end

function Requests:of_http(c, half, from_first)
  local chosen
  local all = { self.methods() }
  if #all > 0 then
    local asked_for = { self.targets() }
    for index, method in ipairs(all) do
      local target = asked_for[index]
      local request = self:make(method.value, target and self:template(target.value))
      self:begin(c, request, half, from_first)
      if c.last - c.first >= MOST_WAITING then
        local forgotten = take_first(c)
        forgotten.waiting = false
        self.over(c, forgotten)
      end
      c.last = c.last + 1
      c.queue[c.last] = request
      chosen = chosen or request
    end
    return chosen
  end
  for _, code in ipairs { self.codes() } do
    local status = code.value
    local request = c.queue[c.first]
    if request and status < 200 and status ~= 101 then
      chosen = request
    elseif request then
      take_first(c)
      self:finish(c, request, ("%d"):format(status))
      chosen = request  -- of several the last: the others are over
    end
  end
  return chosen
end

-- HTTP/2 and HTTP/3: the headers that open a stream are a request, those of the other end its answer. gRPC says in the last
-- headers how a call went, where HTTP says that all is well. -----------------------------------------------

function Requests:remember(c, id, request)
  c.ids = c.ids + 1
  if c.ids > MOST_WAITING then
    for _, old in pairs(c.by_id) do
      old.waiting = false
      if old ~= c.current then self.over(c, old) end
    end
    c.by_id, c.ids = {}, 1
  end
  c.by_id[id] = request
end

function Requests:of_frames(c, frames, half, from_first)
  local chosen
  for _, frame in ipairs(frames) do
    local request = frame.stream and c.by_id[frame.stream]
    local headers = frame.headers
    if frame.stream and headers then
      local method, target, status = headers[":method"], headers[":path"], headers[":status"]
      if method and not request then
        request = self:begin(c, self:make(method, target and self:template(target)), half, from_first)
        self:remember(c, frame.stream, request)
      elseif request and status and not status:find("^1%d%d$") then
        request.status = request.status or shortened(status)
      end
      local outcome = headers["grpc-status"]
      if request and outcome and outcome ~= "0" then request.status = "grpc-status " .. shortened(outcome) end
    end
    chosen = chosen or request
  end
  return chosen and self:set_current(c, chosen)
end

-- DNS: an answer has its question's number -----------------------------------------------------------------

function Requests:of_dns(c, half, from_first)
  local id, bits, name = self.ids(), self.flags(), self.asked_names()
  if not id or not bits then return nil end
  id, bits = id.value, bits.value
  local request = c.by_id[id]
  local kind = self.asked_types()
  kind = kind and (TYPES[kind.value] or ("%d"):format(kind.value))
  local asked = name and shortened(name.value:lower())
  if bits < 0x8000 then
    if request then  -- asked again: the first was not answered
      request.waiting = false
      if request ~= c.current then self.over(c, request) end
    end
    request = self:begin(c, self:make(kind, asked), half, from_first)
    self:remember(c, id, request)
    return request
  end
  if request then
    c.by_id[id], c.ids = nil, c.ids - 1
  else
    request = self:make(kind, asked)
  end
  return self:finish(c, request, CODES[bits % 16] or ("%d"):format(bits % 16))
end

-- A packet that tells nothing of requests: it belongs to the one under way, or it begins the next.
function Requests:of_others(c, from_first, payload)
  if c.held then return c.held end
  local request = c.queue[c.first] or c.current
  if not request or (payload and c.first > c.last and not request.waiting and from_first == request.from_first) then
    c.held = self:make()
    return c.held
  end
  return request
end

-- The request of a packet; `path` is what layers.lua says of it, and `from_first` whether the first end has sent it.
function Requests:of(c, path, half, from_first)
  local holds, request = path.holds, nil
  if holds.http2 then
    request = self:of_frames(c, self.frames_2(), half, from_first)
  elseif holds.http3 and self.frames_3 then
    request = self:of_frames(c, self.frames_3(), half, from_first)
  elseif holds.http then
    request = self:of_http(c, half, from_first)
  elseif holds.dns then
    request = self:of_dns(c, half, from_first)
  end
  if request then return request end
  local payload = false
  if c.kind == "tcp" then
    for _, length in ipairs { self.lengths() } do payload = length.value > 0 end
  end
  return self:of_others(c, from_first, payload)
end

return packet_requests
