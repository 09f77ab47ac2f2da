-- name: tcp,connections
-- title: TCP connections by server
-- description: Which servers refuse, reset or ignore connections, and how many are still open?
--     Each connection is in one state at the end of the capture: refused (RST in response to the SYN), reset (RST before
--     both sides sent FIN), timed out (SYN without any response), closed (FIN from both sides) or open. Connections that
--     began before the capture are counted, but not as started. If the server is unknown (no SYN, and neither the ports
--     nor the number of peers decide), the row has no address.
-- parameter: max integer 100000 maximum number of rows; further servers share the row `(other)`
-- column: server_address address key title=Server
-- column: server_port integer key title=Port
-- column: connections integer sum title=Connec-|tions; total of refused, reset, timed out, closed and open
-- column: started integer sum; with a SYN or SYN/ACK in the capture
-- column: established integer sum title=Estab-|lished; with a completed handshake in the capture
-- column: refused integer sum
-- column: reset integer sum
-- column: timed_out integer sum title=Timed|out
-- column: closed integer sum; with FIN from both sides
-- column: open integer sum; at the end of the capture
-- column: packets integer sum packets
-- column: bytes integer sum bytes
-- section: 810 rows=0
-- finding: refused/connections warning=0.001 bad=0.1 worst=server_address:server_port TCP connections refused
-- finding: timed_out/connections warning=0.001 bad=0.1 worst=server_address:server_port TCP connections without any response
-- finding: reset/connections warning=0.02 bad=0.3 worst=server_address:server_port TCP connections reset
-- sort: connections descending, bytes descending
-- layer: transport

package.path = (__DIR__ or debug.getinfo(1, "S").source:match("@(.*[/\\])")) .. "?.lua;" .. package.path
local sharkstat = require "sharkstat"
local rows = require "rows"
local streams = require "tcp_streams"

local function new_server(key, address, port)
  return {
    address = not key and sharkstat.OTHER or address, port = port, connections = 0, started = 0,
    established = 0, refused = 0, reset = 0, timed_out = 0, closed = 0, open = 0, packets = 0, bytes = 0,
  }
end

local function add_side(s, side)
  local packets, bytes = streams.counts(side)
  s.packets, s.bytes = s.packets + packets, s.bytes + bytes
end

sharkstat.tap(__FILE__, function(run)
  local connections = streams.follow(run)

  -- Of connections that were counted as one, nobody knows how they went.
  local function add_rest(s, rest)
    s.connections = s.connections + rest.count
    for _, name in ipairs { "started", "established", "refused", "reset", "timed_out", "closed", "open" } do s[name] = nil end
    local a, b = streams.sides(rest)
    add_side(s, a)
    add_side(s, b)
  end

  return function()
    local servers, roles_of = rows.new(run, new_server), streams.roles(connections)
    for _, c in ipairs(connections.all) do
      local client, server, _, _, address, port, known = roles_of(c)
      if not known then address, port = nil, nil end
      local s = servers:of(known and address .. " " .. port or "", address, port)
      s.connections = s.connections + 1
      if streams.asked(c) then s.started = s.started + 1 end
      if streams.completed(c) then s.established = s.established + 1 end
      local outcome = streams.outcome(c)
      s[outcome] = s[outcome] + 1
      add_side(s, client)
      add_side(s, server)
    end
    if connections.other then
      servers.other = servers.other or new_server()
      add_rest(servers.other, connections.other)
    end
    for s in servers:each() do
      run:row {
        s.address, s.port, s.connections, s.started, s.established, s.refused, s.reset, s.timed_out, s.closed, s.open,
        s.packets, s.bytes,
      }
    end
  end
end)
