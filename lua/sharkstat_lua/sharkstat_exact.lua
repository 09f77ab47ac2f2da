-- Whole numbers and times that a double does not hold, and values as a record has them. A part of the library
-- (sharkstat.lua), which has these functions under its own name.

local exact = {}

local floor, format = math.floor, string.format
local EXACT_INTEGER = 2 ^ 53

-- Of numbers that Lua 5.2 does not hold: their digits.
local digits_of = {}

-- Keeps the digits of a number for exact.integer to find.
function exact.remember(number, digits) digits_of[number] = digits end

-- A whole number in decimal digits, exact on both Luas.
function exact.integer(number)
  if (number < EXACT_INTEGER and number > -EXACT_INTEGER) or (math.type and math.type(number) == "integer") then
    return format("%d", number)
  end
  return digits_of[number] or format("%.0f", number)
end

-- Seconds and nanoseconds of a time of relative_ns.
local function seconds_of(time)
  local sign, digits = exact.integer(time):match("^(-?)(%d+)$")
  digits = ("0"):rep(10 - #digits) .. digits
  local factor = sign == "-" and -1 or 1
  return factor * tonumber(digits:sub(1, -10)), factor * tonumber(digits:sub(-9))
end

-- Nanoseconds from one time to another, exact on both Luas also where the times are too large for a double.
function exact.elapsed(from, to)
  if math.type or (from < EXACT_INTEGER and from > -EXACT_INTEGER and to < EXACT_INTEGER and to > -EXACT_INTEGER) then
    return to - from
  end
  local from_seconds, from_rest = seconds_of(from)
  local to_seconds, to_rest = seconds_of(to)
  return (to_seconds - from_seconds) * 1000000000 + to_rest - from_rest
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
    local whole = value == floor(value) and value < EXACT_INTEGER and value > -EXACT_INTEGER
    if not (whole or digits_of[value] or (math.type and math.type(value) == "integer")) then
      return format("%.17g", value)
    end
    text = exact.integer(value)
    if value >= 0 and value < 1000 then small[value] = text end
    return text
  end
  if kind ~= "string" then value = tostring(value) end
  if value:find("^[^%c\\]*$") then return value end -- almost all, and to look takes half the time of gsub
  return (value:gsub("[\\\t\n\r]", escapes))
end

return exact
