-- name: services
-- title: Services
-- description: What is this traffic made of? Every byte is assigned to a service, by connection rather than by packet.
--     One row per application protocol, server name, server address, port and transport, with all packets of the
--     connections, including handshakes, ACKs and retransmissions. The server name is the first one in the connection
--     (HTTP Host or :authority, or the SNI of a TLS or QUIC handshake), else the name that DNS in the same capture gave
--     for the server's address. So an HTTP connection with requests to several hosts counts for the first;
--     `http,requests` separates them. A connection without a recognized protocol or name takes that of the other
--     connections to the same server and port, if they all have the same. If the protocol is the transport (`tcp`),
--     nothing above it was recognized.
--     The server is the host that received the SYN or answered requests; if neither was seen, the port number decides,
--     then the number of peers; if none decides, the row has no server and no directions. Packets outside TCP, UDP and
--     SCTP connections count by protocol. In tunnels, the innermost addresses count. The rows add up to all packets and
--     bytes of the capture.
--     By interval, a packet belongs to the interval of its own time, also if its service is only known later, and a
--     connection to the interval of its first packet: the sums over all intervals are the rows without intervals.
-- parameter: every duration - one row per service and interval of this length, aligned to UTC
-- parameter: intervals integer - the same with at most this many intervals, whose length adapts to the capture
-- parameter: max integer 100000 maximum number of rows; further services share the row `(other)`
-- column: start time key with=every,intervals; start of the interval
-- column: protocol text key; application protocol: `http`, `tls`, `quic`, `dns`; `tcp` if none was recognized
-- column: server_name text key title="Server name"; empty if neither the connection nor DNS gives one
-- column: server_address address key title=Server; empty if the server is unknown, or without connections
-- column: server_port integer key title=Port; also if the server is unknown, but both ends have the same port
-- column: transport text key; `tcp`, `udp`, `sctp`; empty without connections
-- column: clients integer size:client_addresses; number of distinct client addresses
-- column: connections integer sum title=Connec-|tions; as counted by tshark's stream numbers
-- column: packets integer sum packets
-- column: bytes integer sum bytes share
-- column: packets_to_server integer sum packets hidden title="Packets|to server"
-- column: bytes_to_server integer sum bytes title="Bytes|to server"
-- column: packets_from_server integer sum packets hidden title="Packets|from server"
-- column: bytes_from_server integer sum bytes title="Bytes|from server"
-- column: first time min hidden; time of the first packet
-- column: last time max hidden; time of the last packet
-- column: client_addresses set union:100000 hidden; at most 100,000 per row
-- column: length duration max seconds hidden with=every,intervals; length of the interval
-- section: 200 rows=6 bar=bytes over_time=intervals=120
--     columns=protocol,server_name=name,server_address:server_port=server,bytes,connections=conns,clients,packets
-- sort: start, bytes descending, packets descending, protocol, server_name, server_address, server_port, transport
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
local service_intervals = require "service_intervals"
local sums = require "service_sums"

local count, count_ways, add_client = sums.count, sums.count_ways, sums.add_client

-- Of a connection, by position: what its first end `a` has sent, and the other one, and the first and last time.
local PACKETS_A, BYTES_A, PACKETS_B, BYTES_B, FIRST, LAST = 1, 2, 3, 4, 5, 6

local function new_row(protocol, name, address, port, transport, flow)
  return sums.begin {
    protocol = protocol or sharkstat.OTHER, name = name, address = address, port = port, transport = transport, flow = flow,
    settled = true, waits = true,
  }
end

-- A walk with what it counts: rows of services, and `grids` of services by interval.
local function new_book(run)
  local services, walk, grids = rows.new(run, new_row), service_packets.new(run), {}
  local book = { run = run, services = services, walk = walk, grids = grids }

  -- Adds connections to their services. For good, their packets to come are counted there.
  function book.settle(among, for_good)
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
      if for_good then
        for _, grid in ipairs(grids) do grid:settle(c, service) end
        walk.book.known[c.kind][c.key] = row
      end
    end
  end

  function walk:full() book.settle(services, true) end

  function walk:waits(fragment, pinfo)
    for _, grid in ipairs(grids) do grid:note(pinfo, fragment) end
  end

  function walk:alone(among, protocol, sum, pinfo)
    local row = among:at(protocol)
    count(row, sum.packets, sum.bytes, sum.first, sum.last)
    for index = 1, #grids do grids[index]:add_to_row(row, pinfo, sum) end
  end

  function walk:met(c, sum)
    c[PACKETS_A], c[BYTES_A], c[PACKETS_B], c[BYTES_B] = 0, 0, 0, 0
    c[FIRST], c[LAST] = sum.first, sum.last
  end

  local function add_to_row(row, pinfo, sum)
    count(row, sum.packets, sum.bytes, sum.first, sum.last)
    for index = 1, #grids do grids[index]:add_to_row(row, pinfo, sum) end
    if not row.packets_to then return end
    if pinfo.src_port == row.port and run:address(pinfo.src) == row.address then
      count_ways(row, 0, 0, sum.packets, sum.bytes)
    else
      count_ways(row, sum.packets, sum.bytes, 0, 0)
    end
  end

  function walk:packet(c, _, pinfo, sum, number)
    if c.settled then return add_to_row(c, pinfo, sum) end
    local from_first = self.book:from_first(c, pinfo, number)
    if from_first then
      c[PACKETS_A], c[BYTES_A] = c[PACKETS_A] + sum.packets, c[BYTES_A] + sum.bytes
    else
      c[PACKETS_B], c[BYTES_B] = c[PACKETS_B] + sum.packets, c[BYTES_B] + sum.bytes
    end
    if sum.first < c[FIRST] then c[FIRST] = sum.first end
    if sum.last > c[LAST] then c[LAST] = sum.last end
    local full = false
    for index = 1, #grids do full = grids[index]:add(c, from_first, pinfo, sum) or full end
    if full then self.book.full() end
  end

  walk:listen(services)
  return book
end

-- Requests of one run that differ in their intervals share what is known of each packet.
local books = {}

local function book_for(run)
  if not sharkstat.hosted then return new_book(run) end
  local key = ("%.0f %s"):format(run.parameters.max, run.filter or "")
  local book = books[key]
  if not book or (book.whole and not run.by_interval) then
    book = new_book(run)
    books[key] = book
  elseif book.run ~= run then
    local first = book.run
    run.remarks, run.lost, run.knows_networks = first.remarks, first.lost, true
    run:bounded(book.services)
  end
  return book
end

local function write_rows(run, book)
  local result = book.services:result(run)
  book.settle(result)
  for _, fragment in pairs(book.walk.fragments) do
    count(result:at(fragment.protocol), 1, fragment.bytes, fragment.first, fragment.last)
  end
  for row in result:each() do
    local clients = row.packets_to and row ~= result.other and sums.clients(row) or nil
    run:row {
      row.protocol, row.name, row.address, row.port, row.transport, row.connections, row.packets, row.bytes,
      row.packets_to, row.bytes_to, row.packets_from, row.bytes_from, row.first, row.last, clients,
      flow = row.flow,
    }
  end
end

sharkstat.tap(__FILE__, function(run)
  run.by_interval = run.parameters.every or run.parameters.intervals
  local book = book_for(run)
  local grid
  if run.by_interval then
    grid = service_intervals.new(run, book.walk)
    book.grids[#book.grids + 1] = grid
  else
    book.whole = true
  end
  return function()
    if book.run ~= run then  -- what befell the first request's walk, befell this one's
      if book.run.failure then error(book.run.failure.message, 0) end
      run.skipped = book.run.skipped
    end
    if grid then grid:write(run) else write_rows(run, book) end
  end
end)
