-- Whole numbers that a double does not hold, and values as a record has them. A part of the library (sharkstat.lua),
-- which has these functions under its own name.
--
-- Lua 5.2 has doubles alone, and the integers of Lua 5.4 wrap around without a word. So a whole number of 9 * 10^15 or
-- more, either side of zero, is an object here, on both. It adds, subtracts and compares like a number, with numbers too,
-- and tostring() gives its digits. Nanoseconds reach that after 104 days, and sums of them soon; counts of packets and
-- bytes never do. Two numbers are added with exact.plus, and subtracted with exact.elapsed, which make such an object
-- where it is needed; with + and - they would lose digits.

local exact = {}

-- What stands for all keys that have no row of their own, as "(other)". tshark's texts end at a NUL, so no packet can say it.
exact.OTHER = "\0(other)"

local floor, format = math.floor, string.format
local LIMIT, UNIT = 9e15, 1e15

local Whole = {} -- the metatable of { high, low }: high * UNIT + low, 0 <= low < UNIT

local function made(high, low)
  local carry = floor(low / UNIT)
  high, low = high + carry, low - carry * UNIT
  if high < 9 and high >= -9 then return high * UNIT + low end
  return setmetatable({ high, low }, Whole)
end

local function parts(value)
  if type(value) ~= "number" then return value[1], value[2] end
  local high = floor(value / UNIT)
  return high, value - high * UNIT
end

local function is_whole(value) return getmetatable(value) == Whole end

function Whole.__add(a, b)
  local high, low = parts(a)
  local more_high, more_low = parts(b)
  return made(high + more_high, low + more_low)
end

function Whole.__sub(a, b)
  local high, low = parts(a)
  local less_high, less_low = parts(b)
  return made(high - less_high, low - less_low)
end

function Whole.__unm(a) return made(-a[1], -a[2]) end

function Whole.__eq(a, b) return a[1] == b[1] and a[2] == b[2] end

function Whole.__lt(a, b)
  local high, low = parts(a)
  local other_high, other_low = parts(b)
  return high < other_high or (high == other_high and low < other_low)
end

function Whole.__le(a, b) return not Whole.__lt(b, a) end

function Whole.__tostring(a)
  local high, low = a[1], a[2]
  if high >= 0 then return format("%.0f%015.0f", high, low) end
  if low > 0 then high, low = high + 1, UNIT - low end
  return format("-%.0f%015.0f", 0 - high, low)
end

-- Whether a value is such an object.
exact.is_whole = is_whole

-- The sum of two whole numbers.
function exact.plus(a, b)
  local sum = a + b
  if (sum < LIMIT and sum > -LIMIT) or is_whole(sum) then return sum end
  return Whole.__add(a, b)
end

-- The second of two whole numbers without the first: of two times, the nanoseconds from one to the other.
function exact.elapsed(from, to)
  local difference = to - from
  if (difference < LIMIT and difference > -LIMIT) or is_whole(difference) then return difference end
  return Whole.__sub(to, from)
end

-- The whole number that digits spell; nil for another text.
local function spelt(text)
  local sign, digits = text:match("^([+-]?)0*(%d+)$")
  if not sign then return nil end
  local value
  if #digits <= 15 then
    value = tonumber(digits)
  else
    value = made(tonumber(digits:sub(1, -16)), tonumber(digits:sub(-15)))
  end
  return sign == "-" and 0 - value or value
end

-- A number from what tshark or a tap has: a number as it is, a 64-bit integer exactly, and what digits spell. Nil where
-- there is none.
function exact.number(value)
  local kind = type(value)
  if kind == "number" then
    if not math.type or math.type(value) == "float" then return value end
    return value < LIMIT and value > -LIMIT and value or spelt(format("%d", value))
  end
  if is_whole(value) then return value end
  if kind ~= "string" and kind ~= "userdata" then return nil end
  local text = tostring(value)
  return spelt(text) or tonumber(text)
end

-- The nanoseconds of a time: of seconds and nanoseconds, or of tshark's own object (NSTime). What a damaged file says
-- may have more than a second of nanoseconds, or less than none.
local function of_seconds(secs, nsecs)
  if secs < 8e6 and secs > -8e6 then return secs * 1000000000 + nsecs end
  local high = floor(secs / 1e6)
  return made(high, (secs - high * 1e6) * 1e9 + nsecs)
end
exact.of_seconds = of_seconds

function exact.nanoseconds(time)
  local secs, nsecs = time.secs, time.nsecs
  if secs < LIMIT and secs > -LIMIT then return of_seconds(secs, nsecs) end
  -- Lua 5.2 has it rounded. The text has it whole, but one less where the nanoseconds go the other way.
  local text = math.type and format("%d", secs) or tostring(time):match("^[^.]*")
  secs = spelt(text)
  if not math.type and secs < 0 and nsecs > 0 then secs = secs + 1 end
  local digits = exact.integer(secs)
  return spelt(digits .. "000000000") + nsecs
end

-- How often `divisor` (a number below 10^14) goes into a whole number, rounded down, and what is left.
function exact.divided(value, divisor)
  if type(value) == "number" then
    local quotient = floor(value / divisor)
    local rest = value - quotient * divisor
    if rest < 0 then quotient, rest = quotient - 1, rest + divisor end -- the quotient was rounded up
    return quotient, rest
  end
  local high, low = value[1], format("%015.0f", value[2])
  local quotient = floor(high / divisor)
  local rest, digits = high - quotient * divisor, {}
  for at = 1, 15 do
    rest = rest * 10 + tonumber(low:sub(at, at))
    local digit = floor(rest / divisor)
    digits[at] = format("%.0f", digit)
    rest = rest - digit * divisor
  end
  return made(quotient, tonumber(table.concat(digits))), rest
end

local function float(value) return type(value) == "number" and value or tonumber(tostring(value)) end

-- The quotient of two numbers as Column.derived_from computes it: times a factor, or without one rounded to a whole number, a
-- half to the even one. Nil where either is missing or the divisor is 0.
function exact.quotient(above, below, factor)
  if not above or not below or below == 0 then return nil end
  if factor then return float(above) / float(below) * factor end
  local whole, rest = exact.divided(above, below)
  if 2 * rest > below or (2 * rest == below and exact.integer(whole):find("[13579]$")) then whole = exact.plus(whole, 1) end
  return whole
end

-- A function that gives the beginning of the interval in which a time is, in microseconds: both rounded so, as tshark
-- does. Times in one interval give what is one key of a table.
function exact.interval(microseconds)
  local known = {}
  return function(time)
    if type(time) == "number" then
      local rounded = floor(time / 1000 + 0.5)
      local into = rounded - floor(rounded / microseconds) * microseconds
      return rounded - into
    end
    local rounded = exact.divided(time + 500, 1000)
    local _, into = exact.divided(rounded, microseconds)
    local start = exact.elapsed(into, rounded)
    if type(start) == "number" then return start end
    local digits = tostring(start)
    known[digits] = known[digits] or start
    return known[digits]
  end
end

-- Microseconds in nanoseconds: their digits, and as a number.
function exact.thousand(microseconds)
  return microseconds == 0 and "0" or exact.integer(microseconds) .. "000"
end

function exact.of_microseconds(microseconds)
  if microseconds < 8e12 and microseconds > -8e12 then return microseconds * 1000 end
  return spelt(exact.thousand(microseconds))
end

-- A whole number in decimal digits.
function exact.integer(number)
  if type(number) ~= "number" then return tostring(number) end
  if (number < LIMIT and number > -LIMIT) or (math.type and math.type(number) == "integer") then
    return format("%d", number)
  end
  return format("%.0f", number)
end

local escapes = { ["\\"] = "\\\\", ["\t"] = "\\t", ["\n"] = "\\n", ["\r"] = "\\r" }

-- The texts of the whole numbers below 1000, which most of what is counted are: to write a number takes longer.
local small = {}

-- One value of a record: a backslash and the three characters that separate records are escaped.
function exact.escape(value)
  if value == nil then return "\\N" end
  local text = small[value]
  if text then return text end
  local kind = type(value)
  if kind == "number" then
    local whole = value == floor(value) and value < LIMIT and value > -LIMIT
    if not (whole or (math.type and math.type(value) == "integer")) then return format("%.17g", value) end
    text = exact.integer(value)
    if value >= 0 and value < 1000 then small[value] = text end
    return text
  end
  if kind ~= "string" then value = tostring(value) end
  if value:find("^[^%c\\]*$") then return value end -- almost all, and to look takes half the time of gsub
  return (value:gsub("[\\\t\n\r]", escapes))
end

return exact
