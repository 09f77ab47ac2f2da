-- The buckets of a sketch, from which Python estimates percentiles. core/sharkstat/tables/sketch.py says what they are,
-- and finds the same ones.

local sketch = {}

local ceil, log, abs, format = math.ceil, math.log, math.abs, string.format

local GAMMA = 1.01 / 0.99
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

-- The bucket of a number, or of a whole number that a double does not hold.
function sketch.bucket(value)
  if type(value) ~= "number" then value = tonumber(tostring(value)) end
  local size = abs(value)
  if size < LEAST then return "zero" end
  if size > MOST then size = MOST end
  local index = ceil(log(size) / log(GAMMA))
  while bound(index) < size do index = index + 1 end
  while bound(index - 1) >= size do index = index - 1 end
  local names = value < 0 and negative or positive
  local name = names[index]
  if not name then
    name = (value < 0 and "n" or "") .. format("%d", index)
    names[index] = name
  end
  return name
end

return sketch
