-- What a service adds up, for services.lua and service_intervals.lua: packets and bytes, those to and from its server, and its
-- clients. It is kept in the row, or cell, itself.

local sums = {}

local MOST_CLIENTS = 100000

-- What a new row has, besides its keys.
function sums.begin(row)
  row.packets, row.bytes, row.clients, row.client_count = 0, 0, {}, 0
  return row
end

function sums.count(row, packets, bytes, first, last)
  row.packets, row.bytes = row.packets + packets, row.bytes + bytes
  if not row.first or first < row.first then row.first = first end
  if not row.last or last > row.last then row.last = last end
end

function sums.count_ways(row, packets_to, bytes_to, packets_from, bytes_from)
  if not row.packets_to then row.packets_to, row.bytes_to, row.packets_from, row.bytes_from = 0, 0, 0, 0 end
  row.packets_to, row.bytes_to = row.packets_to + packets_to, row.bytes_to + bytes_to
  row.packets_from, row.bytes_from = row.packets_from + packets_from, row.bytes_from + bytes_from
end

function sums.add_client(row, address)
  if row.clients[address] then return end
  if row.client_count == MOST_CLIENTS then
    row.clients_full = true
    return
  end
  row.clients[address], row.client_count = true, row.client_count + 1
end

-- The clients as a set for a row, which is full where there were more.
function sums.clients(row)
  local clients = { full = row.clients_full }
  for address in pairs(row.clients) do clients[#clients + 1] = address end
  return clients
end

return sums
