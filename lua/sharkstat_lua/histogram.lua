-- How many values are in each bucket of a histogram. core/sharkstat/tables/histogram.py says what the buckets are called,
-- and finds the same ones.
--
--     histogram.add(row.sizes, value)          -- by 1, 2, 5, 10, 20, ...; row.sizes is {} at first
--     histogram.add(row.sizes, value, place)   -- place = histogram.between(numbers, names)

local exact = require "sharkstat_exact"

local histogram = {}

local floor, abs, log = math.floor, math.abs, math.log
local LEAST, MOST = 1e-300, 1.7976931348623157e308
local DIGITS = { [0] = "1", "2", "5" }

local bounds, names = {}, {}

local function name_of(index)
  local name = names[index]
  if not name then
    local power = floor(index / 3)
    name = ("%se%d"):format(DIGITS[index - 3 * power], power)
    names[index] = name
  end
  return name
end

local function bound(index)
  local found = bounds[index]
  if not found then
    found = tonumber(name_of(index))
    bounds[index] = found
  end
  return found
end

local function logarithmic(value)
  if type(value) ~= "number" then value = tonumber(tostring(value)) end
  local size = abs(value)
  if size < LEAST then return "0" end
  if size > MOST then size = MOST end
  local index = 3 * floor(log(size, 10))
  while bound(index + 1) <= size do index = index + 1 end
  while bound(index) > size do index = index - 1 end
  return value < 0 and "-" .. name_of(index) or name_of(index)
end

-- What gives the bucket of a value between these numbers; there is one name more than numbers.
function histogram.between(numbers, given)
  return function(value)
    local index = 1
    while numbers[index] and not (value < numbers[index]) do index = index + 1 end
    return given[index]
  end
end

local Histogram = { safe = true }

function histogram.add(known, value, place)
  local name = (place or logarithmic)(value)
  local counts = known.counts
  if not counts then
    setmetatable(known, Histogram)
    counts = {}
    known.counts = counts
  end
  counts[name] = (counts[name] or 0) + 1
end

function Histogram.texts(known)
  local texts = {}
  for name, count in pairs(known.counts) do texts[#texts + 1] = name .. ":" .. exact.integer(count) end
  return texts
end

return histogram
