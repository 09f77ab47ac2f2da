-- The measures of group.lua: how each is read from its text, and the lines that count it.
-- core/sharkstat/statistics/measures.py has the grammar, counted_measures.py does the same in Python.

local sharkstat = require "sharkstat"
local values = require "values"
local sketch = require "sketch"
local distinct = require "distinct"
local frequent = require "frequent"
local histogram = require "histogram"
local exact = require "sharkstat_exact"
local Writer = require "group_writer"

local fail, GIVEN = Writer.fail, Writer.given

local READ = {}
for _, kind in ipairs { "count", "sum", "min", "max", "mean", "distinct" } do
  READ[kind] = function(value) return { kind = kind, field = value } end
end

function READ.percentile(value) return { kind = "percentile", field = value:match("^[^:]*") } end

function READ.top(value) return { kind = "top", field = value:match("^[^:]*") } end

function READ.histogram(value)
  local field, bounds = value:match("^([^:]*):?(.*)$")
  local measure = { kind = "histogram", field = field, bounds = {} }
  for bound in bounds:gmatch("[^/]+") do measure.bounds[#measure.bounds + 1] = bound end
  return measure
end

-- Those that need no field.
local BARE = { count = true, seen = true }

local NUMBERS = { integer = true, number = true, duration = true }
local ORDERED = { integer = true, number = true, duration = true, time = true }

-- Fails where the values of a measure's field cannot be counted so; gives the type of its column.
local function check_type(measure, allowed)
  local given = GIVEN[measure.field]
  local column = given and given[2] or values.kind(sharkstat.field(measure.field).type).column
  if not allowed[column] then
    fail("%s=%s: the field is %s, not a number", measure.kind, measure.field, column == "address" and "an address" or "a " .. column)
  end
  return column
end

-- Each writes the lines that count into slots of the group `g` from `at` on, and gives the columns' types and the
-- slots' first values, and whether they are times since 1970 rather than since the capture's first packet.
local MEASURES = {}

function MEASURES.count(writer, measure, at)
  if not measure.field then
    writer:put("g[%d] = g[%d] + 1", at, at)
  else
    local first, more = writer:field(measure.field, "key")
    writer:put("if %s ~= nil then g[%d] = g[%d] + 1 + (%s and #%s or 0) end", first, at, at, more, more)
  end
  return { "integer" }, { 0 }
end

-- A double holds neither large integers nor many nanoseconds: there sharkstat.plus adds.
local function addition(at, column, value)
  if column == "number" then return ("g[%d] = (g[%d] or 0) + %s"):format(at, at, value) end
  return ("do local s = (g[%d] or 0) + %s "):format(at, value)
    .. ("if s < 9e15 and s > -9e15 then g[%d] = s else g[%d] = plus(g[%d] or 0, %s) end end"):format(at, at, at, value)
end

local function sum(writer, measure, at, counted)
  local given, column = GIVEN[measure.field], check_type(measure, NUMBERS)
  local count = counted and (" g[%d] = g[%d] + 1"):format(at + 1, at + 1) or ""
  if given then
    writer:put(addition(at, column, given[1]) .. count)
  else
    local first, more = writer:field(measure.field, "number")
    writer:each(first, more, addition(at, column, "%s") .. count)
  end
  return column
end

function MEASURES.sum(writer, measure, at) return { sum(writer, measure, at, false) }, { "false" } end
function MEASURES.mean(writer, measure, at) return { sum(writer, measure, at, true), "integer" }, { "false", 0 } end

-- Writes the text for each number that the measure is of; %s in it is the number.
local function each_number(writer, measure, text)
  local given = GIVEN[measure.field]
  if given then
    writer:put((text:gsub("%%s", given[1])))
  else
    local first, more = writer:field(measure.field, "number")
    writer:each(first, more, text)
  end
end

local function extreme(sign)
  return function(writer, measure, at)
    local given, column = GIVEN[measure.field], check_type(measure, ORDERED)
    local text = ("if not g[%d] or %%s %s g[%d] then g[%d] = %%s end"):format(at, sign, at, at)
    each_number(writer, measure, text)
    return { column }, { "false" }, column == "time" and not given
  end
end
MEASURES.min, MEASURES.max = extreme("<"), extreme(">")

-- The lines that keep the smallest and the largest v.
local function extremes(at)
  return ("if not g[%d] or v < g[%d] then g[%d] = v end "):format(at, at, at)
    .. ("if not g[%d] or v > g[%d] then g[%d] = v end"):format(at + 1, at + 1, at + 1)
end

-- The sketch, the smallest and the largest value.
function MEASURES.percentile(writer, measure, at)
  local column = check_type(measure, NUMBERS)
  local text = ("do local v = %%s g[%d] = %s(g[%d], v) "):format(at, writer:outside(sketch.with), at)
  each_number(writer, measure, text .. extremes(at + 1) .. " end")
  return { "set", column, column }, { "{}", "false", "false" }
end

-- The number that a bound is, which measures.py has looked at before: nanoseconds where it has a unit, or values have one.
local function bound_of(text, column)
  local number = exact.number(text)
  if number then return column == "duration" and math.floor(number * 1e9 + 0.5) or number end
  if column ~= "duration" then fail("histogram: the values have no unit: write plain numbers") end
  local parameter = { name = "bound", kind = "duration" }
  local time = sharkstat.read_arguments("group", "bound=" .. text:gsub("^-", ""), { parameter }).bound
  return text:find("^-") and -time or time
end

-- The counts, the smallest and the largest value.
function MEASURES.histogram(writer, measure, at)
  local column = check_type(measure, NUMBERS)
  local place
  if measure.bounds[1] then
    local bounds, numbers = measure.bounds, {}
    local labels = { "below " .. bounds[1] }
    for index, text in ipairs(bounds) do
      numbers[index] = bound_of(text, column)
      labels[index + 1] = bounds[index + 1] and ("%s to %s"):format(text, bounds[index + 1]) or "from " .. text
    end
    place = writer:outside(histogram.between(numbers, labels))
  end
  local text = ("do local v = %%s %s(g[%d], v, %s) "):format(writer:outside(histogram.add), at, place or "nil")
  each_number(writer, measure, text .. extremes(at + 1) .. " end")
  return { "set", column, column }, { "{}", "false", "false" }
end

local function each_value(writer, measure, text)
  local given = GIVEN[measure.field]
  if given and given[2] ~= "time" then
    local value = given[1]
    writer:put((text:gsub("%%s", ("(type(%s) == 'number' and %s or tostring(%s))"):format(value, value, value))))
  else
    local first, more = writer:field(measure.field, "key")
    writer:each(first, more, text)
  end
end

function MEASURES.top(writer, measure, at)
  each_value(writer, measure, ("%s(g[%d], %%s)"):format(writer:outside(frequent.add), at))
  return { "set" }, { "{}" }
end

-- Most values have been seen before.
function MEASURES.distinct(writer, measure, at)
  local text = ("do local s = g[%d].seen if not (s and s[%%s]) then %s(g[%d], %%s) end end")
  each_value(writer, measure, text:format(at, writer:outside(distinct.add), at))
  return { "set" }, { "{}" }
end

function MEASURES.seen(writer, _, at)
  writer:put("if not g[%d] then g[%d], g[%d] = ns, ns", at, at, at + 1)
  writer:put("elseif ns < g[%d] then g[%d] = ns elseif ns > g[%d] then g[%d] = ns end", at, at, at + 1, at + 1)
  return { "time", "time" }, { "false", "false" }
end

return { read = READ, bare = BARE, write = MEASURES }
