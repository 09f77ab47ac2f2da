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
local server = require "server"
local layers = require "layers"
local naming = require "service_names"

local moment = sharkstat.moment

-- Connections of which it may still show what they are. Where there are more, all are settled by what is known.
local MOST_CONNECTIONS = 100000
local MOST_CLIENTS = 100000
local MOST_FRAGMENTS = 10000

-- Of a connection, by position: what its first end `a` has sent, and the other one, and the first and last time.
local PACKETS_A, BYTES_A, PACKETS_B, BYTES_B, FIRST, LAST = 1, 2, 3, 4, 5, 6

local function new_row(protocol, name, address, port, transport)
  return {
    protocol = protocol or sharkstat.OTHER, name = name, address = address, port = port, transport = transport,
    clients = {}, client_count = 0, packets = 0, bytes = 0, settled = true,
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
  local path_of = layers.reader()
  local fragments = { sharkstat.field "ip.fragment", sharkstat.field "ipv6.fragment" }
  local names, learn = naming.address_book()
  local own_name = naming.of_connection()
  local book = server.book(run, MOST_CONNECTIONS, true)
  local services = rows.new(run, new_row)

  -- Adds connections to their services.
  local function settle(batch, among, forget)
    local told = naming.identify(book, batch, names)
    for at, c in ipairs(batch) do
      local service = told[at]
      local second = service.second
      local row = among:at(service.protocol, service.name, service.address, service.port, c.kind)
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
      if forget then forget(c, row) end
    end
  end

  local waiting = {}
  function book.full()
    settle(waiting, services, function(c, row) book.known[c.kind][c.key] = row end)
    waiting = {}
    book.room = MOST_CONNECTIONS
  end

  -- Counts packets of a connection, or of a service that its connection was settled for.
  local function add(c, from_first, packets, bytes, first, last)
    if c.settled then
      count(c, packets, bytes, first, last)
      if c.packets_to then
        if from_first then count_ways(c, 0, 0, packets, bytes) else count_ways(c, packets, bytes, 0, 0) end
      end
      return
    end
    if from_first then
      c[PACKETS_A], c[BYTES_A] = c[PACKETS_A] + packets, c[BYTES_A] + bytes
    else
      c[PACKETS_B], c[BYTES_B] = c[PACKETS_B] + packets, c[BYTES_B] + bytes
    end
    if not c[FIRST] or first < c[FIRST] then c[FIRST] = first end
    if not c[LAST] or last > c[LAST] then c[LAST] = last end
  end

  local function sent_by_first(c, pinfo)
    if not c.settled then return book:from_first(c, pinfo) end
    return pinfo.src_port == c.port and run:address(pinfo.src) == c.address
  end

  -- Fragments wait for the packet in which their datagram is whole, by their packet's number.
  local held, held_count = {}, 0
  local function let_go(among)
    for _, fragment in pairs(held) do
      count(among:at(fragment.protocol), 1, fragment.length, fragment.time, fragment.time)
    end
  end

  local function hold(number, protocol, length, time)
    if held_count == MOST_FRAGMENTS then
      let_go(services)
      held, held_count = {}, 0
    end
    held[number] = { protocol = protocol, length = length, time = time }
    held_count = held_count + 1
  end

  -- The fragments that this packet completes: how many, their bytes, the first time and the last.
  local function completed(time)
    local packets, bytes, first, last = 0, 0, time, time
    for _, field in ipairs(fragments) do
      for _, found in ipairs { field() } do
        local fragment = held[found.value]
        if fragment then
          packets, bytes = packets + 1, bytes + fragment.length
          if fragment.time < first then first = fragment.time end
          if fragment.time > last then last = fragment.time end
          held[found.value] = nil
          held_count = held_count - 1
        end
      end
    end
    return packets, bytes, first, last
  end

  run:listen("frame", function(pinfo)
    local number, length, time = moment(pinfo)
    local path = path_of(number)
    if path.fragment then return hold(number, path.protocol, length, time) end
    local packets, bytes, first, last = 1, length, time, time
    if held_count > 0 then
      packets, bytes, first, last = completed(time)
      packets, bytes = packets + 1, bytes + length
    end
    if path.holds.dns then learn() end
    if not path.transport then return count(services:at(path.protocol), packets, bytes, first, last) end
    local c = book:of(pinfo, path.transport, number)
    if not c.settled then
      if not c[FIRST] then
        c[PACKETS_A], c[BYTES_A], c[PACKETS_B], c[BYTES_B] = 0, 0, 0, 0
        c.name_a, c.name_b = names[c.a], names[c.b]
        waiting[#waiting + 1] = c
      end
      if path.above then
        if c.second_serves == nil then
          for _, protocol in ipairs(path.above) do book:look(c, pinfo, protocol) end
        end
        if not c.name then c.name = own_name(path) end
        layers.note(c, path)
      end
    end
    add(c, sent_by_first(c, pinfo), packets, bytes, first, last)
  end)

  return function()
    local result = services:result(run)
    settle(waiting, result)
    let_go(result)
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
      }
    end
  end
end)
