-- name: tcp,health
-- title: TCP health
-- description: Which TCP connections suffer, and from what: loss, delay, a slow receiver, or resets?
--     Every connection with the remarks that tshark makes on its segments (tcp.analysis), how long its handshake and its
--     round trips took, and its goodput. The client is who sent the SYN; where none was seen, the ports tell who the server
--     is, or who has more peers. Where nothing does (`server_known` is false), whoever sent the first packet stands as client.
--     What each side sent is in columns of its own for exports.
-- parameter: max integer 100000 rows; all further connections share the row `(other)`
-- column: client_address address key
-- column: client_port integer key local
-- column: server_address address key
-- column: server_port integer key
-- column: stream integer key hidden local; tshark's number for it
-- column: packets integer sum packets
-- column: bytes integer sum bytes
-- column: retransmissions integer sum packets; of all kinds
-- column: lost_segments integer sum packets; segments before which something is missing in the capture
-- column: resets integer sum packets
-- column: zero_windows integer sum packets; the sender of these could take no more
-- column: handshake_time duration none seconds; from the first SYN to the ACK that completed the handshake
-- column: mean_rtt duration rtt_total/rtts seconds
-- column: min_rtt duration min seconds; the shortest time until a segment was acknowledged (tcp.analysis.ack_rtt)
-- column: max_rtt duration max seconds
-- column: goodput number new_payload_bytes/duration bytes per second; new payload over the duration
-- column: duplicate_acks integer sum packets
-- column: out_of_order integer sum packets
-- column: fast_retransmissions integer sum packets; those that duplicate ACKs asked for
-- column: spurious_retransmissions integer sum packets; those of what was acknowledged before
-- column: duration duration sum seconds; from the first packet to the last
-- column: payload_bytes integer sum bytes hidden; of all segments
-- column: new_payload_bytes integer sum bytes hidden; without what was sent again
-- column: start time min hidden
-- column: rtt_total duration sum seconds hidden
-- column: rtts integer sum hidden; how many times were measured
-- column: client_packets integer sum packets hidden; sent by the client; so all client_ columns
-- column: client_bytes integer sum bytes hidden
-- column: client_payload_bytes integer sum bytes hidden
-- column: client_retransmissions integer sum packets hidden
-- column: client_duplicate_acks integer sum packets hidden
-- column: client_out_of_order integer sum packets hidden
-- column: client_lost_segments integer sum packets hidden
-- column: client_zero_windows integer sum packets hidden
-- column: client_resets integer sum packets hidden
-- column: client_min_rtt duration min seconds hidden; from where it was captured to the client and back
-- column: client_mean_rtt duration client_rtt_total/client_rtts seconds hidden
-- column: client_max_rtt duration max seconds hidden
-- column: client_rtt_total duration sum seconds hidden
-- column: client_rtts integer sum hidden
-- column: server_packets integer sum packets hidden; sent by the server; so all server_ columns
-- column: server_bytes integer sum bytes hidden
-- column: server_payload_bytes integer sum bytes hidden
-- column: server_retransmissions integer sum packets hidden
-- column: server_duplicate_acks integer sum packets hidden
-- column: server_out_of_order integer sum packets hidden
-- column: server_lost_segments integer sum packets hidden
-- column: server_zero_windows integer sum packets hidden
-- column: server_resets integer sum packets hidden
-- column: server_min_rtt duration min seconds hidden; from where it was captured to the server and back
-- column: server_mean_rtt duration server_rtt_total/server_rtts seconds hidden
-- column: server_max_rtt duration max seconds hidden
-- column: server_rtt_total duration sum seconds hidden
-- column: server_rtts integer sum hidden
-- column: server_known boolean first hidden; whether anything tells which end is the server
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
      local row = { client_address, client_port, server_address, server_port, c.stream, n = 5 }
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
