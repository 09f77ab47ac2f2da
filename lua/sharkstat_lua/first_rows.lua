-- The first rows of a result in some order, where nobody wants the others: they never leave tshark. host.lua asks for it
-- with the line "top" of its job:
--
--     top RUN COUNT always|snapshots|rest WORD...
--
-- With "rest", the others are added up in one more row. Each WORD is, in this order of the ranks, one of
--
--     rank:down|up:least|zero:EXPRESSION   rows are in the order of it, the largest first (down); nil is the least, or 0
--     total:EXPRESSION                     its sum over all rows is wanted
--     key:PLACE:TYPE                       the column of that place is a key, and of that type, as far as was known
--     merge:PLACE:RULE                     with "rest": how values of that column become one
--
-- where an EXPRESSION is value:PLACE, sum:PLACE,PLACE, size:PLACE (how many values a set has), or
-- ratio:FACTOR:PLACE,PLACE (whole for FACTOR rounds to a whole number).
--
-- All rows that are equal to the last of the first are sent, too, and all rows in the order in which they came: so whoever
-- sorts them on, and takes so many, has what he would have of all rows.

local exact = require "sharkstat_exact"

local floor = math.floor
local NUMBERS = { integer = true, number = true, time = true, duration = true }
local MISSING = "\239\191\189"  -- U+FFFD, by which tshark replaces bytes that are not text

-- Text as Python has it (text_of in records.py): its order is by code points, as that of bytes is here.
local WELL_FORMED = {
  "^[%z\1-\127]+", "^[\194-\223][\128-\191]", "^\224[\160-\191][\128-\191]", "^[\225-\236\238\239][\128-\191][\128-\191]",
  "^\237[\128-\159][\128-\191]", "^\240[\144-\191][\128-\191][\128-\191]", "^[\241-\243][\128-\191][\128-\191][\128-\191]",
  "^\244[\128-\143][\128-\191][\128-\191]",
}
local function spelt(text)
  if text == exact.OTHER then return "(other)" end
  if text == "(other)" then return "\\x28other)" end
  if not text:find("[\128-\255\\]") then return text end
  text = text:gsub("\\(x[0-9a-f][0-9a-f])", "\\x5c%1")
  local parts, at = {}, 1
  while at <= #text do
    local stop
    for _, pattern in ipairs(WELL_FORMED) do
      local _, found = text:find(pattern, at)
      stop = stop or found
    end
    parts[#parts + 1] = stop and text:sub(at, stop) or ("\\x%02x"):format(text:byte(at))
    at = (stop or at) + 1
  end
  return table.concat(parts)
end

-- What of a row's values is compared, as a function of the row; nil where this cannot be told.
local function plain(place, kind)
  if NUMBERS[kind] then
    return function(values)
      local value = values[place]
      if type(value) ~= "string" then return value end
      return exact.number(value:match("^@?(.*)$"))
    end
  elseif kind == "boolean" then
    return function(values)
      local value = values[place]
      if value == nil then return nil end
      local text = exact.escape(value)
      return (text == "1" or text == "true") and 1 or 0
    end
  elseif kind == "text" or kind == "address" then
    return function(values)
      local value = values[place]
      if value == nil then return nil end
      return spelt(type(value) == "string" and value or exact.escape(value))
    end
  end
end

local function expression(words, columns)
  local kind, rest = words:match("^(%l+):(.*)$")
  if kind == "value" then
    local place = tonumber(rest)
    return plain(place, columns[place][2]), columns[place][2]
  elseif kind == "size" then
    local place = tonumber(rest)
    return function(values)
      local set = values[place]
      return set and #set
    end, "integer"
  end
  local one, other = rest:match("(%d+),(%d+)$")
  one, other = tonumber(one), tonumber(other)
  local first, second = plain(one, columns[one][2]), plain(other, columns[other][2])
  if not (NUMBERS[columns[one][2]] and NUMBERS[columns[other][2]]) then return nil end
  if kind == "sum" then
    return function(values) return exact.plus(first(values) or 0, second(values) or 0) end, columns[one][2]
  end
  local factor = tonumber(rest:match("^%d+"))
  if columns[one][2] == "duration" then factor = nil end
  return function(values) return exact.quotient(first(values), second(values), factor) end, "number"
end

local FirstRows = {}
FirstRows.__index = FirstRows

-- Nil where all rows are to be sent: what the columns hold is known now, and may have no order here.
local function new(run, count, when, words)
  local made = setmetatable({ count = count, always = when ~= "snapshots", ranks = {}, totals = {}, keys = {}, lists = {} },
    FirstRows)
  made.merges = when == "rest" and {}
  local columns, keys = run.columns, {}
  for index, column in ipairs(columns) do
    if column[2] == "path" then return nil end
    if column[2] == "set" then made.lists[#made.lists + 1] = index end
  end
  for _, word in ipairs(words) do
    local kind, rest = word:match("^(%l+):(.*)$")
    if kind == "rank" then
      local direction, none, text = rest:match("^(%l+):(%l+):(.*)$")
      local value = expression(text, columns)
      if not value then
        if #made.ranks == 0 then return nil end
        break -- rows that are equal until here are all sent
      end
      made.ranks[#made.ranks + 1] = { value = value, down = direction == "down", zero = none == "zero" }
    elseif kind == "total" then
      local value, type_of = expression(rest, columns)
      if type_of ~= "integer" and type_of ~= "duration" then return nil end -- a sum of fractions depends on their order
      made.totals[#made.totals + 1] = value
    elseif kind == "merge" then
      local place, rule = rest:match("^(%d+):(%l+)$")
      place = tonumber(place)
      if columns[place][2] == "set" then return nil end -- Python adds them up, of all rows
      if NUMBERS[columns[place][2]] and (rule == "sum" or rule == "min" or rule == "max") then
        table.insert(made.merges, { place = place, rule = rule, value = plain(place, columns[place][2]) })
      end
    else
      local place, known = rest:match("^(%d+):(%l+)$")
      place = tonumber(place)
      keys[#keys + 1] = columns[place][2]
      if columns[place][2] == "time" and known ~= "time" then return nil end -- it may come first in the order
      if columns[place][2] == "text" then made.keys[#made.keys + 1] = place end
    end
  end
  -- Of intervals all are wanted, or the earliest.
  if not made.merges and #keys == 1 and (keys[1] == "time" or keys[1] == "duration") then return nil end
  return #made.ranks > 0 and made or nil
end

-- A result begins, a final one or a snapshot's.
function FirstRows:begin(final)
  self.active = self.always or not final
  self.heap, self.equal, self.seen, self.replaced, self.sums, self.rest = {}, {}, 0, 0, {}, {}
  for index in ipairs(self.totals) do self.sums[index] = 0 end
end

-- Whether one row comes before the other (1), behind it (-1), or neither (0). What was compared of a row is kept.
local function order(self, one, other)
  for index, rank in ipairs(self.ranks) do
    local a, b = one[index], other[index]
    if a == nil then
      a = rank.value(one.values)
      if a == nil then a = rank.zero and 0 end
      one[index] = a
    end
    if b == nil then
      b = rank.value(other.values)
      if b == nil then b = rank.zero and 0 end
      other[index] = b
    end
    if a == false or b == false then
      if a ~= b then return (a == false) == rank.down and -1 or 1 end
    elseif a < b then
      return rank.down and -1 or 1
    elseif b < a then
      return rank.down and 1 or -1
    end
  end
  return 0
end

-- The heap has the last of the first rows at its root.
local function sift_up(self, at)
  local heap = self.heap
  while at > 1 do
    local parent = floor(at / 2)
    if order(self, heap[at], heap[parent]) >= 0 then return end
    heap[at], heap[parent] = heap[parent], heap[at]
    at = parent
  end
end

local function sift_down(self)
  local heap, at = self.heap, 1
  local size = #heap
  while true do
    local last, child = at, at * 2
    if child <= size and order(self, heap[child], heap[last]) < 0 then last = child end
    if child < size and order(self, heap[child + 1], heap[last]) < 0 then last = child + 1 end
    if last == at then return end
    heap[at], heap[last] = heap[last], heap[at]
    at = last
  end
end

local function whole(value) return exact.is_whole(value) or (value % 1 == 0 and value < 2 ^ 63 and value > -2 ^ 63) end

-- A row is none of the first.
local function leave(self, values)
  local rest = self.rest
  for _, merge in ipairs(self.merges or {}) do
    local place, rule = merge.place, merge.rule
    local value, known = merge.value(values), rest[place]
    if value ~= nil then
      if type(values[place]) == "string" and values[place]:find("^@") then merge.since_1970 = true end
      if known == nil then
        rest[place] = value
      elseif rule ~= "sum" then
        if (rule == "min" and value < known) or (rule == "max" and known < value) then rest[place] = value end
      else
        rest[place] = whole(known) and whole(value) and exact.plus(known, value) or known + value
      end
    end
  end
end

-- Takes a row. Its list of values may be used again for the next one.
function FirstRows:offer(run, values)
  self.seen = self.seen + 1
  for index, total in ipairs(self.totals) do
    local value = total(values)
    if value then self.sums[index] = exact.plus(self.sums[index], value) end
  end
  for _, place in ipairs(self.keys) do
    local value = values[place]
    if type(value) == "string" and value:find(MISSING, 1, true) then
      self.replaced = self.replaced + 1
      break
    end
  end
  for _, place in ipairs(self.lists) do
    local list = values[place]
    if list and list.full then run.capped = true end
  end
  if self.count == 0 then return leave(self, values) end
  local heap = self.heap
  local row = { values = values }
  local place = 1
  if #heap >= self.count then
    place = order(self, row, heap[1])
    if place < 0 then return leave(self, values) end
  end
  row.values, row.at = {}, self.seen
  for index = 1, #run.columns do row.values[index] = values[index] end
  if place == 0 then
    self.equal[#self.equal + 1] = row
  elseif #heap < self.count then
    heap[#heap + 1] = row
    sift_up(self, #heap)
  else
    local gone = heap[1]
    heap[1] = row
    sift_down(self)
    if order(self, gone, heap[1]) == 0 then
      self.equal[#self.equal + 1] = gone
    else
      leave(self, gone.values)
      for _, other in ipairs(self.equal) do leave(self, other.values) end
      self.equal = {}
    end
  end
end

-- The result ends: `write` is called for the values of each row that is sent, and `write_rest` for what the others add up
-- to, where that is wanted. Gives what the others were: how many, in how many of all rows bytes of a key were replaced, and
-- the totals.
function FirstRows:finish(write, write_rest)
  local rows = self.heap
  for _, row in ipairs(self.equal) do rows[#rows + 1] = row end
  table.sort(rows, function(one, other) return one.at < other.at end)
  for _, row in ipairs(rows) do write(row.values) end
  self.heap, self.equal, self.active = nil, nil, false
  local left = self.seen - #rows
  if self.merges and left > 0 then
    for _, merge in ipairs(self.merges) do
      local value = self.rest[merge.place]
      if value ~= nil and merge.since_1970 then self.rest[merge.place] = "@" .. exact.integer(value) end
    end
    write_rest(self.rest, left)
  end
  return left, self.replaced, table.unpack(self.sums)
end

return new
