-- What tshark does not recognize is not counted, and that must be said: connections that begin like those of a protocol,
-- but that tshark takes for another (by the port of the server, or of the client), or for none.

local sharkstat = require "sharkstat"
local rows = require "rows"
local layers = require "layers"

-- Where it is tshark's default, something else is wrong: segments are missing, or were changed on their way.
local USUAL = { http = { [80] = true, [8080] = true }, http2 = {}, tls = { [443] = true } }

local NAMES = { http = "HTTP", http2 = "HTTP/2", tls = "TLS" }
-- How the payload of a connection's first packets looks, as regular expressions of tshark's: a request, a preface, and a
-- record of a handshake with a ClientHello.
local LOOKS = {
  http = "(?:GET|HEAD|POST|PUT|DELETE|OPTIONS|PATCH|CONNECT) [^ ]+ HTTP/1[.][01]",
  http2 = "PRI [*] HTTP/2[.]0\\r\\n\\r\\n",
  tls = "\\x16\\x03[\\x00-\\xff]{3}\\x01",
}
local BEGINS_LIKE = 'tcp.len > 17 && !icmp && !icmpv6 && tcp.payload matches "^(?:%s)"'

-- Which of them the payload of a packet looks like, that looks like one.
local function look_of(payload)
  local first = payload:get_index(0)
  if first == 0x16 then return "tls" end
  return payload:get_index(1) == 0x52 and payload:get_index(2) == 0x49 and "http2" or "http"
end

-- Has a run say which connections look like the protocol. `recognized` is asked at the end whether a stream was
-- recognized after all: its first packet may have been but a part of a message.
return function(run, protocol, recognized)
  local streams, ports_of = sharkstat.field "tcp.stream", {}
  local function note(pinfo)
    local stream = select(-1, streams()).value
    if pinfo.caplen == pinfo.len then ports_of[stream] = ports_of[stream] or pinfo.dst_port end
  end
  if not sharkstat.hosted then
    run:listen("frame", note, BEGINS_LIKE:format(LOOKS[protocol]) .. " && !" .. protocol)
  else
    -- All that ask share one filter: each costs every packet something.
    local path_of, payloads = layers.reader(), sharkstat.field "tcp.payload"
    run:listen("frame", function(pinfo, _, _, number, _, _, path)
      path = path or path_of(number)
      if layers.has(path, protocol) then return end
      for _, payload in ipairs { payloads() } do
        if look_of(payload.value) == protocol then return note(pinfo) end
      end
    end, BEGINS_LIKE:format(table.concat({ LOOKS.http, LOOKS.http2, LOOKS.tls }, "|")))
  end
  run:remark(function()
    local connections, options = 0, {}
    for stream, port in pairs(ports_of) do
      if not recognized(stream) then
        connections = connections + 1
        if not USUAL[protocol][port] then rows.add(options, ("-d tcp.port==%.0f,%s"):format(port, protocol)) end
      end
    end
    if connections == 0 then return nil end
    table.sort(options)
    local mend = #options > 0 and "add " .. table.concat(options, " ", 1, math.min(#options, 5))
      or "segments are missing or damaged"
    return ("%.0f TCP connection%s like %s that tshark does not recognize, and that %s not counted: %s"):format(
      connections, connections == 1 and " looks" or "s look", NAMES[protocol], connections == 1 and "is" or "are", mend)
  end)
end
