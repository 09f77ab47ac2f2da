-- What the taps that keep a row a key share: rows, at most so many; requests that wait for their response, and times from
-- one to the other.
-- They have a bound of their own, since `max` is one of rows, and may change no number.
--
--     local hosts = rows.new(run, function(address) return { address or "(other)", 0 } end)
--     local host = hosts:of(address)       -- the row of this key, made when it is new
--     for host in hosts:each() do ... end  -- in the order in which they came, the one of all others last
--
-- Once there are `max` rows, all further keys share one more, `other`, which is made without a key: so memory is
-- bounded, and what is counted is in some row.

local exact = require "sharkstat_exact"
local sketch = require "sketch"

local rows = {}
local Rows = {}
Rows.__index = Rows

local NONE = {}  -- stands for a key that is nil

-- `max` may be the run: then it is the value of its parameter `max`.
function rows.new(max, make)
  local run = type(max) == "table" and max
  local made = setmetatable({ max = run and run.parameters.max or max, make = make, all = {}, known = {}, other = nil },
    Rows)
  if run then run:bounded(made) end
  return made
end

function Rows:room()
  if #self.all < self.max then return true end
  self.other = self.other or self.make()
  return false
end

-- The row of one key; what else is given goes to `make`. It is faster to look into the table `known` first.
function Rows:of(key, ...)
  local row = self.known[key]
  if row then return row end
  if not self:room() then return self.other end
  row = self.make(key, ...)
  self.known[key], self.all[#self.all + 1] = row, row
  return row
end

-- What a table of tables of tables ... holds for keys, one a level; nil where it is not there.
local function below(level, depth, key, ...)
  if depth == 0 then return level end
  if key == nil then key = NONE end
  level = level[key]
  return level and below(level, depth - 1, ...)
end

-- The row of several keys, each of which may be nil.
function Rows:at(...)
  return below(self.known, select("#", ...), ...) or self:added(...)
end

function Rows:added(...)
  if not self:room() then return self.other end
  local row = self.make(...)
  self.all[#self.all + 1] = row
  local depth, level = select("#", ...), self.known
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
  local at = 0
  return function()
    at = at + 1
    return self.all[at] or (at == #self.all + 1 and self.other) or nil
  end
end

-- The rows that a result may change, and a function that gives what stands for a row among them. A window asks for the
-- result again and again while packets come: there they are copies, so that what is still open can be added to them.
function Rows:result(run)
  if not run.redrawn then return self, function(row) return row end end
  local copies = {}
  local function copy(value)
    if type(value) ~= "table" or value == NONE then return value end
    local made = copies[value]
    if made then return made end
    made = {}
    copies[value] = made
    for key, inner in pairs(value) do made[key] = copy(inner) end
    return setmetatable(made, getmetatable(value))
  end
  local result = copy(self)
  return result, function(row) return copies[row] end
end

-- Requests that wait for their response, at most `max` of them: the oldest give way, and `give_up` is called with each
-- that does.
local Waiting = {}
Waiting.__index = Waiting

function rows.waiting(max, give_up)
  return setmetatable({ half = math.max(1, math.floor(max / 2)), give_up = give_up, young = {}, count = 0,
                        old = {}, forgotten = 0 }, Waiting)
end

-- The requests of a run that wait for their response. There are few, unless somebody asks and is never answered: then
-- the oldest give way, and a remark says how many.
local MOST_REQUESTS = 1000000
function rows.requests(run, give_up)
  local waiting = rows.waiting(MOST_REQUESTS, give_up)
  run:remark(function()
    if waiting.forgotten == 0 then return nil end
    return ("more than %.0f requests were waiting for a response at once: the oldest %.0f count as unanswered"):format(
      waiting.half, waiting.forgotten)
  end)
  return waiting
end

function Waiting:put(key, request)
  if self.count >= self.half then
    for _, forgotten in pairs(self.old) do
      self.give_up(forgotten)
      self.forgotten = self.forgotten + 1
    end
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

-- All that wait; they go on waiting.
function Waiting:each()
  return coroutine.wrap(function()
    for _, held in ipairs { self.old, self.young } do
      for _, request in pairs(held) do coroutine.yield(request) end
    end
  end)
end

-- Adds a text to a set, which a column of the type set takes as it is. A sender may make up as many as it likes, so
-- there are at most 100; then the set is `full`.
function rows.add(set, text)
  local has = set.has -- apart: a text may be "full"
  if not has then
    has = {}
    set.has = has
  end
  if text == nil or has[text] then return end
  if #set >= 100 then
    set.full = true
    return
  end
  has[text] = true
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

-- Adds a time to a row's `timed` (how many), `time`, `least` and `most`. A response that is earlier than its request
-- (packets out of order, a clock that was set back) has no time.
function rows.time(row, time)
  if time < 0 then return end
  row.timed, row.time = (row.timed or 0) + 1, exact.plus(row.time or 0, time)
  if not row.least or time < row.least then row.least = time end
  if not row.most or time > row.most then row.most = time end
end

-- The same, and adds it to the sketch `times`.
function rows.time_in_sketch(row, time)
  if time < 0 then return end
  rows.time(row, time)
  row.times = sketch.with(row.times, time)
end

return rows
