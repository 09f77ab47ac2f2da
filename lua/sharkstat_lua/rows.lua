-- What the taps that keep a row a key share: rows, at most so many; requests that wait for their response, at most so
-- many; and times from one to the other.
--
--     local names = require("rows").new(run.parameters.max, function(name, kind) return { queries = 0 } end)
--     local row = names:at(name, kind)      -- the row of these keys, made when they are new
--     for _, row in names:each() do ... end -- in the order in which they came; the last one is names.other, if any
--
-- Once there are `max` rows, all further keys share one more, `other`, which is made without keys: so memory is bounded,
-- and what is counted is in some row.

local rows = {}
local Rows = {}
Rows.__index = Rows

local NONE = {}  -- stands for a key that is nil

function rows.new(max, make)
  return setmetatable({ max = max, make = make, all = {}, root = {} }, Rows)
end

function Rows:at(...)
  local depth = select("#", ...)
  local level = self.root
  for index = 1, depth do
    local key = select(index, ...)
    if key == nil then key = NONE end
    local found = level[key]
    if found == nil then return self:added(...) end
    level = found
  end
  return level
end

function Rows:added(...)
  if #self.all >= self.max then
    if not self.other then self.other = self.make() end
    return self.other
  end
  local row = self.make(...)
  self.all[#self.all + 1] = row
  local depth, level = select("#", ...), self.root
  for index = 1, depth do
    local key = select(index, ...)
    if key == nil then key = NONE end
    if index == depth then
      level[key] = row
    else
      level[key] = level[key] or {}
      level = level[key]
    end
  end
  return row
end

function Rows:each()
  if self.other and self.all[#self.all] ~= self.other then self.all[#self.all + 1] = self.other end
  return ipairs(self.all)
end

-- Requests that wait for their response, at most `max` of them: the oldest give way, and `give_up` is called with each
-- that does, or that is left when the last packet was seen.
local Waiting = {}
Waiting.__index = Waiting

function rows.waiting(max, give_up)
  return setmetatable({ half = math.max(1, math.floor(max / 2)), give_up = give_up, young = {}, count = 0,
                        old = {} }, Waiting)
end

function Waiting:put(key, request)
  if self.count >= self.half then
    for _, forgotten in pairs(self.old) do self.give_up(forgotten) end
    self.old, self.young, self.count = self.young, {}, 0
  end
  self.young[key] = request
  self.count = self.count + 1
end

function Waiting:find(key) return self.young[key] or self.old[key] end

function Waiting:take(key)
  local request = self.young[key]
  if request then
    self.young[key] = nil
    self.count = self.count - 1
    return request
  end
  request = self.old[key]
  self.old[key] = nil
  return request
end

function Waiting:finish()
  for _, held in ipairs { self.old, self.young } do
    for _, request in pairs(held) do self.give_up(request) end
  end
  self.old, self.young, self.count = {}, {}, 0
end

-- Adds a text to a set, which a column of the type set takes as it is. A sender may make up as many as it likes, so
-- there are at most 100.
function rows.add(set, text)
  if text == nil or set[text] or #set >= 100 then return end
  set[text] = true
  set[#set + 1] = text
end

-- tshark's words for a value, without the number behind it; the number alone where it has no words.
function rows.words()
  local known = {}
  return function(field)
    local number = field.value
    local words = known[number]
    if not words then
      local text, digits = field.display:match("^(.-) %((%x*x?%x+)%)$")
      words = not text and field.display or text:find("^Unknown") and digits or text
      known[number] = words
    end
    return words
  end
end

-- Adds a time to a row's `timed` (how many), `time`, `least` and `most`.
function rows.time(row, time)
  row.timed, row.time = (row.timed or 0) + 1, (row.time or 0) + time
  if not row.least or time < row.least then row.least = time end
  if not row.most or time > row.most then row.most = time end
end

return rows
