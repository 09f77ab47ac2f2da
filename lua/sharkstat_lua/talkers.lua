-- name: talkers
-- title: Talkers
-- description: Which hosts send and receive the most, when, and with which services?
--     Bytes in, out and in total per host, for the whole capture or per interval (`every`). Each packet counts once for
--     its sender and once for its receiver, by the innermost network addresses, or by link-layer addresses if it has
--     none. The services are the server ports with most of the host's bytes. The server is the host that received the
--     SYN; if none was seen, the port number decides, then the number of peers.
-- parameter: every duration - length of the intervals, starting with the capture's first packet; by default one interval
-- parameter: max integer 100000 maximum number of rows; further hosts share the row `(other)`
-- column: start time key; start of the interval; empty if there is only one
-- column: address address key; empty if the packet has none, e.g. no receiver on the interface `any`
-- column: bytes integer sum bytes share=bytes_out; in and out
-- column: bytes_in integer sum bytes title="Bytes in"
-- column: bytes_out integer sum bytes title="Bytes out"
-- column: packets integer sum packets; in and out
-- column: packets_in integer sum packets title="Packets in"
-- column: packets_out integer sum packets title="Packets out"
-- column: services text none; up to three, with their share of the host's bytes
-- section: 300 title=Hosts rows=5 columns=address=host,bytes_in=in,bytes_out=out,packets,services
-- sort: start, bytes descending, packets descending, address
-- field: frame.protocols
-- layer: transport
-- order: any

package.path = (__DIR__ or debug.getinfo(1, "S").source:match("@(.*[/\\])")) .. "?.lua;" .. package.path
local sharkstat = require "sharkstat"
local exact = require "sharkstat_exact"
local rows = require "rows"
local server = require "server"
local layers = require "layers"

local floor = math.floor

-- How many services of a host are told apart, and how many of them are shown.
local MOST_SERVICES, SHOWN = 100, 3
local MOST_CONNECTIONS = 100000
-- A service is a number: of its port, and of its transport.
local TRANSPORTS = { "sctp", "tcp", "udp" }
local NUMBERS = { sctp = 1, tcp = 2, udp = 3 }
local KINDS = 8

local ADDRESS, START, BYTES_IN, BYTES_OUT, PACKETS_IN, PACKETS_OUT, BY_SERVICE, SERVICES = 1, 2, 3, 4, 5, 6, 7, 8

local function add_service(host, service, length)
  local bytes = host[BY_SERVICE][service]
  if not bytes then
    if host[SERVICES] == MOST_SERVICES then return end
    host[SERVICES] = host[SERVICES] + 1
    bytes = 0
  end
  host[BY_SERVICE][service] = bytes + length
end

-- Such as "https 82%, dns 10%, tcp/9999 3%". A service is a port with its transport, or a connection of which it is not
-- known yet which end serves.
local function most_used(host, book)
  local by_service, order = {}, {}
  for service, bytes in pairs(host[BY_SERVICE]) do
    if type(service) == "table" then service = book:service(service) end
    if service and bytes > 0 then
      if not by_service[service] then order[#order + 1] = service end
      by_service[service] = (by_service[service] or 0) + bytes
    end
  end
  table.sort(order, function(a, b)
    if by_service[a] ~= by_service[b] then return by_service[a] > by_service[b] end
    return a < b
  end)
  local total, texts = host[BYTES_IN] + host[BYTES_OUT], {}
  for at = 1, math.min(SHOWN, #order) do
    local service = order[at]
    local port, transport = floor(service / KINDS), TRANSPORTS[service % KINDS]
    local name = server.name(port) or ("%s/%d"):format(transport, port)
    texts[at] = ("%s %.0f%%"):format(name, 100 * by_service[service] / total)
  end
  return #texts > 0 and table.concat(texts, ", ") or nil
end

sharkstat.tap(__FILE__, function(run)
  local every = run.parameters.every
  if every then
    if every < 1000 or every % 1000 ~= 0 then
      error(("talkers: every=%.0fns: give whole microseconds, as 500ms, 10s or 5m"):format(every), 0)
    end
  end
  local start_of = every and exact.interval(every / 1000)
  local hosts = rows.new(run, function(_, address, bucket)
    address = address or sharkstat.OTHER
    if address == "" or address == "NONE" then address = nil end  -- tshark's word in a packet that has none
    return { address, bucket, 0, 0, 0, 0, {}, 0 }
  end)
  local known = hosts.known

  local bucket
  local prefix = ""
  local function look_at(time)
    local now = start_of(time)
    if now ~= bucket then bucket, prefix = now, sharkstat.integer(now) .. " " end
  end

  local function host_of(text)
    local key = prefix .. text
    return known[key] or hosts:of(key, text, bucket)
  end

  local book, path_of = server.book(run, MOST_CONNECTIONS), layers.reader()

  local function number_of(port, transport) return port * KINDS + NUMBERS[transport] end

  function book:service(c)
    local second = self:second_serves(c)
    if second == nil then return nil end
    return number_of(second and c.port_b or c.port_a, c.kind)
  end

  -- Of a packet beyond the connections that are told apart, its ports alone tell.
  local function service_by_ports(pinfo, transport)
    local first, second = pinfo.src_port, pinfo.dst_port
    local second_serves = server.by_ports(first, second)
    if second_serves == nil then return nil end
    return number_of(second_serves and second or first, transport)
  end

  -- Packets that are cut before their ports, or in TCP's header: which service they belong to is unknown.
  local cut, flags, lost = sharkstat.cut, sharkstat.field "tcp.flags", 0
  function run.lost() return lost end

  -- The rows of a connection's ends, which are looked up once an interval, and its service, once that is known.
  local function rows_of(c)
    c.row_a, c.row_b, c.rows_for = host_of(c.a), host_of(c.b), prefix
    return c.row_a, c.row_b
  end
  local function service_of(c)
    if c.second_serves == nil then return c end
    c.service = number_of(c.second_serves and c.port_b or c.port_a, c.kind)
    return c.service
  end

  run:listen("frame", function(pinfo, _, _, number, length, time, path)
    if every then look_at(time) end
    path = path or path_of(number)
    if cut and pinfo.caplen < length and (path.fragment or path.transport == "tcp" and not flags()) then lost = lost + 1 end
    local transport = path.transport
    local c = transport and book:of(pinfo, transport, number)
    local sender, receiver, service
    if c then
      service = c.service or service_of(c)
    elseif transport then
      service = service_by_ports(pinfo, transport)
    end
    if c and path.plain then  -- an address costs more to write than all else
      if c.rows_for == prefix then
        sender, receiver = c.row_a, c.row_b
      else
        sender, receiver = rows_of(c)
      end
      if not book:from_first(c, pinfo, number) then sender, receiver = receiver, sender end
    else
      sender, receiver = host_of(run:address(pinfo.src)), host_of(run:address(pinfo.dst))
    end
    sender[BYTES_OUT], sender[PACKETS_OUT] = sender[BYTES_OUT] + length, sender[PACKETS_OUT] + 1
    receiver[BYTES_IN], receiver[PACKETS_IN] = receiver[BYTES_IN] + length, receiver[PACKETS_IN] + 1
    if service then
      local sent, received = sender[BY_SERVICE], receiver[BY_SERVICE]
      local bytes = sent[service]
      if bytes then sent[service] = bytes + length else add_service(sender, service, length) end
      bytes = received[service]
      if bytes then received[service] = bytes + length else add_service(receiver, service, length) end
    end
  end)

  return function()
    for host in hosts:each() do
      run:row {
        host[START] and exact.thousand(host[START]), host[ADDRESS], host[BYTES_IN] + host[BYTES_OUT], host[BYTES_IN], host[BYTES_OUT],
        host[PACKETS_IN] + host[PACKETS_OUT], host[PACKETS_IN], host[PACKETS_OUT],
        host ~= hosts.other and most_used(host, book) or nil,
      }
    end
  end
end)
