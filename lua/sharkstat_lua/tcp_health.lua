-- name: tcp,health
-- title: TCP health
-- description: Which TCP connections have problems, and of which kind: loss, delay, a slow receiver, or resets?
--     One row per connection, with tshark's TCP analysis flags (tcp.analysis), handshake time, round-trip time and
--     goodput. The client is the sender of the SYN; if none was seen, the port numbers decide, then the number of peers;
--     if neither does (`server_known` is false), the sender of the first packet counts as client. Exports also have
--     separate columns per side.
-- parameter: max integer 100000 maximum number of rows; further connections share the row `(other)`
-- column: client_address address key title=Client
-- column: client_port integer key local title=Port
-- column: server_address address key title=Server
-- column: server_port integer key title=Port
-- column: stream integer key hidden local; tshark's stream number
-- column: packets integer sum packets
-- column: bytes integer sum bytes
-- column: retransmissions integer sum packets title=Re-|trans; of all kinds
-- column: lost_segments integer sum packets title=Lost|before; segments after a gap (previous segment not captured)
-- column: resets integer sum packets
-- column: zero_windows integer sum packets title=Zero|win; segments with a zero window: the sender's receive buffer is full
-- column: handshake_time duration none seconds title=Handshake; from the first SYN to the ACK that completed the handshake
-- column: mean_rtt duration rtt_total/rtts seconds title=RTT|mean
-- column: min_rtt duration min seconds title=RTT|min; shortest time until a segment was acknowledged (tcp.analysis.ack_rtt)
-- column: max_rtt duration max seconds title=RTT|max
-- column: goodput number new_payload_bytes/duration bytes per second title=Goodput|bytes/s; new payload divided by the duration
-- column: duplicate_acks integer sum packets title=Dup|ACKs
-- column: out_of_order integer sum packets title="Out of|order"
-- column: fast_retransmissions integer sum packets title=Fast; retransmissions triggered by duplicate ACKs
-- column: spurious_retransmissions integer sum packets title=Spurious; retransmissions of data already acknowledged
-- column: duration duration sum seconds; from the first packet to the last
-- column: payload_bytes integer sum bytes hidden; of all segments
-- column: new_payload_bytes integer sum bytes hidden; without retransmitted bytes
-- column: start time min hidden
-- column: rtt_total duration sum seconds hidden
-- column: rtts integer sum hidden; number of measured round trips
-- column: client_packets integer sum packets hidden; sent by the client, like all client_ columns
-- column: client_bytes integer sum bytes hidden
-- column: client_payload_bytes integer sum bytes hidden
-- column: client_retransmissions integer sum packets hidden
-- column: client_duplicate_acks integer sum packets hidden
-- column: client_out_of_order integer sum packets hidden
-- column: client_lost_segments integer sum packets hidden
-- column: client_zero_windows integer sum packets hidden
-- column: client_resets integer sum packets hidden
-- column: client_min_rtt duration min seconds hidden; from the capture point to the client and back
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
-- column: server_known boolean first hidden; whether it is known which side is the server
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
local streams = require "tcp_streams"

sharkstat.tap(__FILE__, function(run)
  local connections = streams.follow(run, true)
  return function()
    local roles_of, most = streams.roles(connections), run.parameters.max
    for at = 1, math.min(#connections.all, most) do
      local c = connections.all[at]
      local client, server, client_address, client_port, server_address, server_port, known = roles_of(c)
      local row = { client_address, client_port, server_address, server_port, streams.stream(c), n = 5 }
      streams.measures(row, client, server, streams.start(c), streams.duration(c), { streams.handshake(c), n = 1 })
      row[row.n + 1] = known
      run:row(row)
    end
    local a, b, start = streams.rest(connections, most)
    if start then
      run.capped = true
      local row = { sharkstat.OTHER, nil, nil, nil, nil, n = 5 }
      streams.measures(row, a, b, start, nil, { n = 1 })
      run:row(row)
    end
  end
end)
