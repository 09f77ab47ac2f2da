-- Sketches of distributions, from which percentiles are estimated. core/sharkstat/tables/sketch.py says what they are,
-- and makes the same ones.
--
--     row.times = sketch.with(row.times, time)  -- the sketch with one more value; nil has none
--     run:row { row.name, row.times }           -- in a column whose rule is sketch

local exact = require "sharkstat_exact"

local sketch = {}

local ceil, log, abs, format = math.ceil, math.log, math.abs, string.format

-- Up to so many values are kept as they are.
local EXACT = 100
local GAMMA = 1.01 / 0.99
local PER_LOG = 1 / log(GAMMA)
local ERROR = 0.01
local LEAST, MOST = 1e-300, 1.7976931348623157e308

-- Upper bounds. The logarithm only guesses the bucket, since libraries differ in its last bit; these products do not.
local up, down = { [0] = 1.0 }, { [0] = 1.0 }
local highest, lowest = 0, 0

local function bound(index)
  while index > highest do
    up[highest + 1] = up[highest] * GAMMA
    highest = highest + 1
  end
  while -index > lowest do
    down[lowest + 1] = down[lowest] / GAMMA
    lowest = lowest + 1
  end
  if index >= 0 then return up[index] end
  return down[-index]
end

local positive, negative = {}, {} -- the names of buckets, each made once

-- A whole number that a double does not hold is an object.
local function float(value) return type(value) == "number" and value or tonumber(tostring(value)) end

-- The bucket of a number.
function sketch.bucket(value)
  value = float(value)
  local size = abs(value)
  if size < LEAST then return "zero" end
  if size > MOST then size = MOST end
  local index = ceil(log(size) * PER_LOG)
  local most, least = up[index], up[index - 1]
  if not (most and least and size <= most and least < size) then -- the guess is nearly always right
    while bound(index) < size do index = index + 1 end
    while bound(index - 1) >= size do index = index - 1 end
  end
  local names = value < 0 and negative or positive
  local name = names[index]
  if not name then
    name = (value < 0 and "n" or "") .. format("%d", index)
    names[index] = name
  end
  return name
end
local bucket = sketch.bucket

-- The metatable of a sketch: a list of values, or, once there are more, `counts` by bucket.
local Sketch = { safe = true } -- no text of it has to be escaped

function sketch.with(known, value)
  if not known or not known[1] and not known.counts then return setmetatable({ value }, Sketch) end
  local counts = known.counts
  if not counts then
    local count = #known + 1
    known[count] = value
    if count <= EXACT then return known end
    counts = {}
    for at = count, 1, -1 do
      local name = bucket(known[at])
      counts[name] = (counts[name] or 0) + 1
      known[at] = nil
    end
    known.counts = counts
    return known
  end
  local name = bucket(value)
  counts[name] = (counts[name] or 0) + 1
  return known
end

-- The entries of a sketch, as a set of texts.
function Sketch.texts(known)
  local texts = {}
  if known.counts then
    for name, count in pairs(known.counts) do texts[#texts + 1] = name .. ":" .. exact.integer(count) end
    return texts
  end
  local counts = {}
  for _, value in ipairs(known) do
    local text = "=" .. exact.escape(value)
    counts[text] = (counts[text] or 0) + 1
  end
  for text, count in pairs(counts) do texts[#texts + 1] = count == 1 and text or format("%s:%d", text, count) end
  return texts
end

-- What is in the middle of a bucket.
local function middle(name)
  if name == "zero" then return 0 end
  local sign, index = name:match("^(n?)(.*)$")
  local size = bound(tonumber(index)) * (1 - ERROR)
  return sign == "n" and -size or size
end

-- The percentile as sketch.py estimates it; `percent` is a text such as 99.9.
function sketch.percentile(known, percent, least, most)
  if getmetatable(known) ~= Sketch or least == nil or most == nil then return nil end
  local whole, fraction = percent:match("^(%d+)%.?(%d*)$")
  local share, of = tonumber(whole .. fraction), 100 * 10 ^ #fraction
  local values = {}
  for _, value in ipairs(known) do values[#values + 1] = { value, 1 } end
  for name, count in pairs(known.counts or {}) do values[#values + 1] = { middle(name), count } end
  table.sort(values, function(one, other) return one[1] < other[1] end)
  local total = 0
  for _, value in ipairs(values) do total = total + value[2] end
  local rank = math.max(1, ceil(share * total / of))
  if rank == total then return most end
  if rank == 1 then return least end
  local below = 0
  for _, value in ipairs(values) do
    below = below + value[2]
    if below >= rank then
      if value[1] < least then return least elseif value[1] > most then return most end
      return value[1]
    end
  end
end

return sketch
