-- What tshark does not recognize is not counted, and that must be said: connections that begin like those of a protocol,
-- but that tshark takes for another (by the port of the server, or of the client), or for none.

local sharkstat = require "sharkstat"
local rows = require "rows"

-- How the payload of a connection's first packets looks, as display filters.
-- Where it is tshark's default, something else is wrong: segments are missing, or were changed on their way.
local USUAL = { http = { [80] = true, [8080] = true }, http2 = {}, tls = { [443] = true } }

local NAMES = { http = "HTTP", http2 = "HTTP/2", tls = "TLS" }
local LOOKS = {
  http = 'tcp.payload matches "^(GET|HEAD|POST|PUT|DELETE|OPTIONS|PATCH|CONNECT) [^ ]+ HTTP/1[.][01]" && !http',
  http2 = "tcp.payload[0:18] == 50:52:49:20:2a:20:48:54:54:50:2f:32:2e:30:0d:0a:0d:0a && !http2",
  -- A record of a handshake, with a ClientHello.
  tls = "tcp.payload[0:2] == 16:03 && tcp.payload[5:1] == 01 && !tls",
}

-- Has a run say which connections look like the protocol. `recognized` is asked at the end whether a stream was
-- recognized after all: its first packet may have been but a part of a message.
return function(run, protocol, recognized)
  local streams, ports_of = sharkstat.field "tcp.stream", {}
  run:listen("frame", function(pinfo)
    local stream = select(-1, streams()).value
    if pinfo.caplen == pinfo.len then ports_of[stream] = ports_of[stream] or pinfo.dst_port end
  end, "tcp.len > 17 && !icmp && !icmpv6 && " .. LOOKS[protocol])
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
