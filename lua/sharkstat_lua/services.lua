-- name: services
-- title: Services
-- description: What is this traffic made of? Every byte belongs to a service, by connection and not by packet.
--     A row has all connections with the same application protocol, server name, server address, port and transport; all
--     of their packets count, those of handshakes, acknowledgements and retransmissions too. The server's name is the
--     first that the connection itself tells (an HTTP Host or :authority, or the server name of a TLS or QUIC handshake);
--     else the name for which DNS in the same capture gave the server's address. So an HTTP connection that asks several
--     hosts belongs to the first of them, and `http,requests` tells them apart. Where a connection shows no protocol or no
--     name, and all others with the same server and port have one and the same, it has that, too. A protocol called as the
--     transport means that nothing was recognised above it.
--     The server is who took the SYN, or answers requests; where neither was seen, the port tells, or who has more peers;
--     where nothing does, there is no server in the row, and no direction. Packets that belong to no connection of TCP,
--     UDP or SCTP are counted by their protocol. In a tunnel the innermost addresses count. All rows add up to the packets
--     and bytes that were read. Once there are `max` rows, all further services share the row `(other)`.
-- parameter: max integer 100000 rows; all further services share the row `(other)`
-- column: protocol text key; of the application: `http`, `tls`, `quic`, `dns`; `tcp` where nothing above it was recognised
-- column: server_name text key; none where neither the connection nor DNS tells one
-- column: server_address address key; none where the server is not known, and where there are no connections
-- column: server_port integer key
-- column: transport text key; `tcp`, `udp`, `sctp`; none for what has no connections
-- column: clients integer size:client_addresses; how many different addresses
-- column: connections integer sum; as tshark tells them apart
-- column: packets integer sum packets
-- column: bytes integer sum bytes share
-- column: packets_to_server integer sum packets hidden
-- column: bytes_to_server integer sum bytes
-- column: packets_from_server integer sum packets hidden
-- column: bytes_from_server integer sum bytes
-- column: first time min hidden; the first packet
-- column: last time max hidden; the last packet
-- column: client_addresses set union:100000 hidden; at most 100,000 in a row
-- section: 200 rows=6 bar=bytes
--     columns=protocol,server_name=name,server_address:server_port=server,bytes,connections=conns,clients,packets
-- sort: bytes descending, packets descending, protocol, server_name, server_address, server_port, transport
-- field: frame.protocols
-- field: tcp.stream
-- field: udp.stream
-- field: tcp.flags
-- field: http.host
-- field: http2.headers.authority
-- field: tls.handshake.extensions_server_name
-- field: dns.resp.name
-- field: ip.fragment
-- layer: messages

package.path = (__DIR__ or debug.getinfo(1, "S").source:match("@(.*[/\\])")) .. "?.lua;" .. package.path
local sharkstat = require "sharkstat"
local rows = require "rows"
local service_packets = require "service_packets"

local MOST_CLIENTS = 100000

-- Of a connection, by position: what its first end `a` has sent, and the other one, and the first and last time.
local PACKETS_A, BYTES_A, PACKETS_B, BYTES_B, FIRST, LAST = 1, 2, 3, 4, 5, 6

local function new_row(protocol, name, address, port, transport, flow)
  return {
    protocol = protocol or sharkstat.OTHER, name = name, address = address, port = port, transport = transport, flow = flow,
    clients = {}, client_count = 0, packets = 0, bytes = 0, settled = true, waits = true,
  }
end

local function count(row, packets, bytes, first, last)
  row.packets, row.bytes = row.packets + packets, row.bytes + bytes
  if not row.first or first < row.first then row.first = first end
  if not row.last or last > row.last then row.last = last end
end

local function count_ways(row, packets_to, bytes_to, packets_from, bytes_from)
  if not row.packets_to then row.packets_to, row.bytes_to, row.packets_from, row.bytes_from = 0, 0, 0, 0 end
  row.packets_to, row.bytes_to = row.packets_to + packets_to, row.bytes_to + bytes_to
  row.packets_from, row.bytes_from = row.packets_from + packets_from, row.bytes_from + bytes_from
end

local function add_client(row, address)
  if row.clients[address] then return end
  if row.client_count == MOST_CLIENTS then
    row.clients_full = true
    return
  end
  row.clients[address] = true
  row.client_count = row.client_count + 1
end

sharkstat.tap(__FILE__, function(run)
  local services, walk = rows.new(run, new_row), service_packets.new(run)

  -- Adds connections to their services. For good, their packets to come are counted there.
  local function settle(among, for_good)
    for c, service in walk:services() do
      local second = service.second
      local row = among:at(service.protocol, service.name, service.address, service.port, c.kind, c.flow)
      count(row, c[PACKETS_A] + c[PACKETS_B], c[BYTES_A] + c[BYTES_B], c[FIRST], c[LAST])
      row.connections = (row.connections or 0) + 1
      if second ~= nil and row ~= among.other then
        add_client(row, second and c.a or c.b)
        if second then
          count_ways(row, c[PACKETS_A], c[BYTES_A], c[PACKETS_B], c[BYTES_B])
        else
          count_ways(row, c[PACKETS_B], c[BYTES_B], c[PACKETS_A], c[BYTES_A])
        end
      end
      if for_good then walk.book.known[c.kind][c.key] = row end
    end
  end

  function walk:full() settle(services, true) end

  function walk:alone(among, protocol, sum)
    count(among:at(protocol), sum.packets, sum.bytes, sum.first, sum.last)
  end

  function walk:met(c, sum)
    c[PACKETS_A], c[BYTES_A], c[PACKETS_B], c[BYTES_B] = 0, 0, 0, 0
    c[FIRST], c[LAST] = sum.first, sum.last
  end

  local function add_to_row(row, pinfo, sum)
    count(row, sum.packets, sum.bytes, sum.first, sum.last)
    if not row.packets_to then return end
    if pinfo.src_port == row.port and run:address(pinfo.src) == row.address then
      count_ways(row, 0, 0, sum.packets, sum.bytes)
    else
      count_ways(row, sum.packets, sum.bytes, 0, 0)
    end
  end

  function walk:packet(c, _, pinfo, sum)
    if c.settled then return add_to_row(c, pinfo, sum) end
    if self:from_first(c, pinfo) then
      c[PACKETS_A], c[BYTES_A] = c[PACKETS_A] + sum.packets, c[BYTES_A] + sum.bytes
    else
      c[PACKETS_B], c[BYTES_B] = c[PACKETS_B] + sum.packets, c[BYTES_B] + sum.bytes
    end
    if sum.first < c[FIRST] then c[FIRST] = sum.first end
    if sum.last > c[LAST] then c[LAST] = sum.last end
  end

  walk:listen(services)

  return function()
    local result = services:result(run)
    settle(result)
    walk:let_go(result)
    for row in result:each() do
      local clients
      if row.packets_to and row ~= result.other then
        clients = {}
        for address in pairs(row.clients) do clients[#clients + 1] = address end
        clients.full = row.clients_full
      end
      run:row {
        row.protocol, row.name, row.address, row.port, row.transport, row.connections, row.packets, row.bytes,
        row.packets_to, row.bytes_to, row.packets_from, row.bytes_from, row.first, row.last, clients,
        flow = row.flow,
      }
    end
  end
end)
