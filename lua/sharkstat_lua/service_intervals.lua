-- Services by intervals of time, for services.lua: what each connection has in each interval until its service is known,
-- and what each service has.
--
--     local grid = service_intervals.new(run, walk)  -- by the run's parameters `every` or `intervals`
--     grid:add(c, from_first, pinfo, sum)     -- a packet of a connection whose service is not settled; true where there are
--                                             -- so many that all should be
--     grid:settle(c, service)                 -- its service is settled
--     grid:add_to_row(row, pinfo, sum)        -- a packet of a service's row: of a settled connection, or of none
--     grid:note(pinfo, fragment)              -- a fragment waits for the packet that completes it
--     grid:write(run)                         -- emits the rows
--
-- A packet is in the interval of its own time, so fragments may be in another one than the packet that completes them.

local sharkstat = require "sharkstat"
local rows = require "rows"
local intervals = require "intervals"
local sums = require "service_sums"

local count, count_ways, add_client = sums.count, sums.count_ways, sums.add_client

-- What connections have whose service is not settled: where there is more, all are settled.
local MOST_CELLS = 500000
local MOST_RESTS = 100000

-- A connection has a list of cells, WIDTH values each: the interval, what its end `a` has sent in it and what the other
-- one, and the first and last time. Where packets are out of order, an interval may be there twice.
local PACKETS_A, BYTES_A, PACKETS_B, BYTES_B, FIRST, LAST, WIDTH = 1, 2, 3, 4, 5, 6, 7

local function new_cell(at, protocol, name, address, port, transport, flow)
  return sums.begin {
    at = at, protocol = protocol or sharkstat.OTHER, name = name, address = address, port = port, transport = transport,
    flow = flow,
  }
end

-- What one cell has, added to another one.
local function join(to, from)
  if from.packets > 0 then count(to, from.packets, from.bytes, from.first, from.last) end
  if from.connections then to.connections = (to.connections or 0) + from.connections end
  if to.protocol == sharkstat.OTHER then return end
  if from.packets_to then count_ways(to, from.packets_to, from.bytes_to, from.packets_from, from.bytes_from) end
  for address in pairs(from.clients) do add_client(to, address) end
  to.clients_full = to.clients_full or from.clients_full
end

-- Cells by interval and service, at most `max` of them. Those beyond share one an interval; where there are too many
-- intervals, the last share one without a time.
local Cells = {}
Cells.__index = Cells

local function new_cells(max)
  return setmetatable({ rows = rows.new(max, new_cell), rest = rows.new(MOST_RESTS, new_cell) }, Cells)
end

function Cells:of(at, service)
  if service.protocol == sharkstat.OTHER then return self:other(at) end
  local found = self.rows
  local cell = found:at(at, service.protocol, service.name, service.address, service.port, service.transport, service.flow)
  return cell ~= found.other and cell or self:other(at)
end

function Cells:other(at)
  if at then return self.rest:of(at) end
  self.rest.other = self.rest.other or new_cell()
  return self.rest.other
end

function Cells:each()
  local order, at = {}, 0
  for index, cell in ipairs(self.rows.all) do order[index] = cell end
  for cell in self.rest:each() do order[#order + 1] = cell end
  return function()
    at = at + 1
    return order[at]
  end
end

local Grid = {}
Grid.__index = Grid

local service_intervals = {}

function service_intervals.new(run, walk)
  local every, most, max = run.parameters.every, run.parameters.intervals, run.parameters.max
  if every and most then error("services: give every= or intervals=, not both", 0) end
  if every and (every < 1000 or every % 1000 ~= 0 or every > 7 * 86400e9) then
    error(("services: every=%.0fns: give whole microseconds, at most 7d, as 500ms, 10s or 5m"):format(every), 0)
  end
  return setmetatable({
    run = run, walk = walk, max = max,
    intervals = intervals.new(every), most = most and math.max(2, most),
    seen = {}, count = 0,       -- the intervals that there are, where their number is bounded
    held = 0,                   -- cells of connections
    cells = new_cells(max),     -- of what is settled
    last = {},                  -- the last one of each row
  }, Grid)
end

-- The interval of a time. Where there would be too many of them, they grow.
function Grid:interval(pinfo, time)
  local at = self.intervals.of(pinfo, time)
  if not self.most or self.seen[at] then return at end
  while self.count >= self.most and not self.seen[at] do
    self:grow()
    at = self.intervals.of(pinfo, time)
  end
  if not self.seen[at] then self.seen[at], self.count = true, self.count + 1 end
  return at
end

function Grid:grow()
  local factor = self.intervals.grow()
  local function of(at) return at and math.floor(at / factor) end
  local seen = self.seen
  self.seen, self.count, self.held = {}, 0, 0
  for at in pairs(seen) do
    if not self.seen[of(at)] then self.seen[of(at)], self.count = true, self.count + 1 end
  end
  for _, c in ipairs(self.walk.waiting) do
    local list = c[self] or {}
    c[self] = nil
    for from = 1, #list, WIDTH do
      local number = of(list[from])
      local grown, to = self:place(c, number, list[from + FIRST])
      for slot = from + PACKETS_A, from + BYTES_B do grown[to + slot - from] = grown[to + slot - from] + list[slot] end
      if list[from + FIRST] < grown[to + FIRST] then grown[to + FIRST] = list[from + FIRST] end
      if list[from + LAST] > grown[to + LAST] then grown[to + LAST] = list[from + LAST] end
    end
  end
  local before = self.cells
  self.cells, self.last = new_cells(self.max), {}
  for cell in before:each() do join(self.cells:of(of(cell.at), cell), cell) end
end

-- A connection's cells, and where the one of that interval begins: the last one, or a new one.
function Grid:place(c, at, time)
  local list = c[self]
  if not list then
    list = {}
    c[self] = list
  end
  local from = #list - WIDTH + 1
  if list[from] ~= at then
    from = #list + 1
    list[from], list[from + PACKETS_A], list[from + BYTES_A], list[from + PACKETS_B], list[from + BYTES_B] = at, 0, 0, 0, 0
    list[from + FIRST], list[from + LAST] = time, time
    self.held = self.held + 1
  end
  return list, from
end

function Grid:add_one(c, from_first, at, bytes, time)
  local list, from = self:place(c, at, time)
  local packets = from + (from_first and PACKETS_A or PACKETS_B)
  list[packets], list[packets + 1] = list[packets] + 1, list[packets + 1] + bytes
  if time < list[from + FIRST] then list[from + FIRST] = time end
  if time > list[from + LAST] then list[from + LAST] = time end
end

function Grid:add(c, from_first, pinfo, sum)
  if sum.fragments then
    for _, fragment in ipairs(sum.fragments) do
      self:add_one(c, from_first, self:interval(pinfo, fragment.time), fragment.length, fragment.time)
    end
  end
  self:add_one(c, from_first, self:interval(pinfo, sum.time), sum.length, sum.time)
  return self.held > MOST_CELLS
end

-- Adds what a connection has to the cells of its service. A connection counts where its first packet is.
function Grid:add_connection(c, service, cells)
  local list, second = c[self] or {}, service.second
  for from = 1, #list, WIDTH do
    local cell = cells:of(list[from], service)
    local packets_a, bytes_a = list[from + PACKETS_A], list[from + BYTES_A]
    local packets_b, bytes_b = list[from + PACKETS_B], list[from + BYTES_B]
    count(cell, packets_a + packets_b, bytes_a + bytes_b, list[from + FIRST], list[from + LAST])
    cell.connections = (cell.connections or 0) + (from == 1 and 1 or 0)
    if second ~= nil and cell.protocol ~= sharkstat.OTHER then
      add_client(cell, second and c.a or c.b)
      if second then
        count_ways(cell, packets_a, bytes_a, packets_b, bytes_b)
      else
        count_ways(cell, packets_b, bytes_b, packets_a, bytes_a)
      end
    end
  end
end

function Grid:settle(c, service)
  self:add_connection(c, service, self.cells)
  self.held = self.held - #(c[self] or {}) / WIDTH
  c[self] = nil
end

function Grid:note(pinfo, fragment) self:interval(pinfo, fragment.time) end

function Grid:add_to_row(row, pinfo, sum)
  local client, from_server
  if row.packets_to then
    from_server = pinfo.src_port == row.port and self.run:address(pinfo.src) == row.address
    client = self.run:address(from_server and pinfo.dst or pinfo.src)
  end
  local function add(at, bytes, time)
    local cell = self.last[row]
    if not cell or cell.at ~= at then
      cell = self.cells:of(at, row)
      self.last[row] = cell
    end
    count(cell, 1, bytes, time, time)
    if row.connections then cell.connections = cell.connections or 0 end
    if not client or cell.protocol == sharkstat.OTHER then return end
    add_client(cell, client)
    if from_server then count_ways(cell, 0, 0, 1, bytes) else count_ways(cell, 1, bytes, 0, 0) end
  end
  if sum.fragments then
    for _, fragment in ipairs(sum.fragments) do
      add(self:interval(pinfo, fragment.time), fragment.length, fragment.time)
    end
  end
  add(self:interval(pinfo, sum.time), sum.length, sum.time)
end

function Grid:write(run)
  local cells = new_cells(self.max)
  for cell in self.cells:each() do join(cells:of(cell.at, cell), cell) end
  for c, service in self.walk:services() do self:add_connection(c, service, cells) end
  for _, fragment in pairs(self.walk.fragments) do
    local cell = cells:of(self:interval(nil, fragment.time), fragment)
    count(cell, 1, fragment.length, fragment.time, fragment.time)
  end
  for cell in cells:each() do
    local clients
    if cell.protocol == sharkstat.OTHER then
      run.capped = true
    elseif cell.packets_to then
      clients = sums.clients(cell)
    end
    run:row {
      cell.at and self.intervals.start(cell.at), cell.protocol, cell.name, cell.address, cell.port, cell.transport,
      cell.connections, cell.packets, cell.bytes, cell.packets_to, cell.bytes_to, cell.packets_from, cell.bytes_from,
      cell.first, cell.last, clients, self.intervals.duration(), flow = cell.flow,
    }
  end
end

return service_intervals
