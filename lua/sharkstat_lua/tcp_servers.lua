-- name: tcp,servers
-- title: TCP servers
-- description: Which TCP servers are slow, lose packets or reset connections?
--     The values of tcp,health, summed over all connections of a server. The server is the host that received the SYN; if
--     none was seen, the port numbers decide, then the number of peers; if neither does, the row has no address. Goodput
--     is the total of new payload divided by the total duration of the connections.
-- parameter: max integer 100000 maximum number of rows; further servers share the row `(other)`
-- column: server_address address key title=Server
-- column: server_port integer key title=Port
-- column: connections integer sum title=Connec-|tions
-- column: packets integer sum packets
-- column: bytes integer sum bytes
-- column: retransmissions integer sum packets title=Re-|trans; of all kinds
-- column: lost_segments integer sum packets title=Lost|before; segments after a gap (previous segment not captured)
-- column: resets integer sum packets
-- column: zero_windows integer sum packets title=Zero|win; segments with a zero window: the sender's receive buffer is full
-- column: mean_handshake duration handshake_total/handshakes seconds title=Handshake|mean
-- column: min_handshake duration min seconds title=Handshake|min; from the first SYN to the ACK that completed the handshake
-- column: max_handshake duration max seconds title=Handshake|max
-- column: mean_rtt duration rtt_total/rtts seconds title=RTT|mean
-- column: min_rtt duration min seconds title=RTT|min; shortest time until a segment was acknowledged (tcp.analysis.ack_rtt)
-- column: max_rtt duration max seconds title=RTT|max
-- column: goodput number new_payload_bytes/duration bytes per second title=Goodput|bytes/s; new payload divided by the duration
-- column: duplicate_acks integer sum packets title=Dup|ACKs
-- column: out_of_order integer sum packets title="Out of|order"
-- column: fast_retransmissions integer sum packets title=Fast; retransmissions triggered by duplicate ACKs
-- column: spurious_retransmissions integer sum packets title=Spurious; retransmissions of data already acknowledged
-- column: duration duration sum seconds; total over all connections
-- column: payload_bytes integer sum bytes hidden; of all segments
-- column: new_payload_bytes integer sum bytes hidden; without retransmitted bytes
-- column: start time min hidden
-- column: rtt_total duration sum seconds hidden
-- column: rtts integer sum hidden; number of measured round trips
-- column: client_packets integer sum packets hidden; sent by clients, like all client_ columns
-- column: client_bytes integer sum bytes hidden
-- column: client_payload_bytes integer sum bytes hidden
-- column: client_retransmissions integer sum packets hidden
-- column: client_duplicate_acks integer sum packets hidden
-- column: client_out_of_order integer sum packets hidden
-- column: client_lost_segments integer sum packets hidden
-- column: client_zero_windows integer sum packets hidden
-- column: client_resets integer sum packets hidden
-- column: client_min_rtt duration min seconds hidden; from the capture point to clients and back
-- column: client_mean_rtt duration client_rtt_total/client_rtts seconds hidden
-- column: client_max_rtt duration max seconds hidden
-- column: client_rtt_total duration sum seconds hidden
-- column: client_rtts integer sum hidden
-- column: server_packets integer sum packets hidden; sent by the server, like all server_ columns
-- column: server_bytes integer sum bytes hidden
-- column: server_payload_bytes integer sum bytes hidden
-- column: server_retransmissions integer sum packets hidden
-- column: server_duplicate_acks integer sum packets hidden
-- column: server_out_of_order integer sum packets hidden
-- column: server_lost_segments integer sum packets hidden
-- column: server_zero_windows integer sum packets hidden
-- column: server_resets integer sum packets hidden
-- column: server_min_rtt duration min seconds hidden; from the capture point to the server and back
-- column: server_mean_rtt duration server_rtt_total/server_rtts seconds hidden
-- column: server_max_rtt duration max seconds hidden
-- column: server_rtt_total duration sum seconds hidden
-- column: server_rtts integer sum hidden
-- column: handshake_total duration sum seconds hidden
-- column: handshakes integer sum hidden; number of completed handshakes
-- section: 800 rows=0
-- finding: retransmissions/packets warning=0.01 bad=0.05 worst=server_address:server_port TCP segments retransmitted
-- finding: zero_windows/packets warning=0.001 bad=0.05 worst=server_address:server_port TCP segments with a zero window
-- finding: lost_segments/packets warning=0.01 bad=0.1 worst=server_address:server_port TCP segments after segments that were not captured
-- sort: bytes descending, packets descending
-- layer: transport
-- field: tcp.analysis.flags
-- field: tcp.analysis.ack_rtt
-- field: tcp.analysis.retransmission
-- field: tcp.analysis.fast_retransmission
-- field: tcp.analysis.spurious_retransmission
-- field: tcp.analysis.duplicate_ack
-- field: tcp.analysis.out_of_order
-- field: tcp.analysis.lost_segment
-- field: tcp.analysis.zero_window

package.path = (__DIR__ or debug.getinfo(1, "S").source:match("@(.*[/\\])")) .. "?.lua;" .. package.path
local sharkstat = require "sharkstat"
local rows = require "rows"
local streams = require "tcp_streams"

local function new_server(key, address, port)
  return {
    address = not key and sharkstat.OTHER or address, port = port, connections = 0,
    client = streams.new_side(), server = streams.new_side(), duration = 0, handshakes = 0, handshake_total = 0,
  }
end

sharkstat.tap(__FILE__, function(run)
  local connections = streams.follow(run, true)

  local function emit(s)
    local row = { s.address, s.port, s.connections, n = 3 }
    streams.measures(row, s.client, s.server, s.start, s.duration, { s.handshake_min, s.handshake_max, n = 2 })
    row[row.n + 1], row[row.n + 2] = s.handshake_total, s.handshakes
    run:row(row)
  end

  -- Of connections that were counted as one, nothing is known but sums.
  local function add_rest(s, rest)
    local a, b = streams.sides(rest)
    s.connections = s.connections + rest.count
    streams.add(s.client, a)
    streams.add(s.server, b)
    local start = streams.start(rest)
    if not s.start or start < s.start then s.start = start end
    s.duration, s.handshakes, s.handshake_total, s.handshake_min, s.handshake_max = nil, nil, nil, nil, nil
  end

  return function()
    local servers, roles_of = rows.new(run, new_server), streams.roles(connections)
    for _, c in ipairs(connections.all) do
      local client, server, _, _, address, port, known = roles_of(c)
      if not known then address, port = nil, nil end
      local s = servers:of(known and address .. " " .. port or "", address, port)
      s.connections = s.connections + 1
      streams.add(s.client, client)
      streams.add(s.server, server)
      local start, handshake = streams.start(c), streams.handshake(c)
      if not s.start or start < s.start then s.start = start end
      s.duration = sharkstat.plus(s.duration, streams.duration(c))
      if handshake then
        s.handshakes, s.handshake_total = s.handshakes + 1, sharkstat.plus(s.handshake_total, handshake)
        if not s.handshake_min or handshake < s.handshake_min then s.handshake_min = handshake end
        if not s.handshake_max or handshake > s.handshake_max then s.handshake_max = handshake end
      end
    end
    if connections.other then
      servers.other = servers.other or new_server()
      add_rest(servers.other, connections.other)
    end
    for s in servers:each() do emit(s) end
  end
end)
