-- Values as text, where sharkstat is not there to write them: as people read them (core/sharkstat/tables/view.py does the
-- same), and as they are (core/sharkstat/tables/export.py, plain_value).

local exact = require "sharkstat_exact"

local values = {}
local concat, floor, format = table.concat, math.floor, string.format

---------------------------------------------------------------------------------------------------
-- Values as people read them

-- First and last code points of what moves a cursor, colours, reorders, breaks a line or cannot be seen; packets can hold
-- all of it. The same as ACTING of texts.py, which says where they are from.
local ACTING = {
  { 0x7f, 0xa0 }, { 0xad, 0xad }, { 0x34f, 0x34f }, { 0x61c, 0x61c }, { 0x115f, 0x1160 }, { 0x1680, 0x1680 },
  { 0x17b4, 0x17b5 }, { 0x180b, 0x180f }, { 0x2000, 0x200f }, { 0x2028, 0x202f }, { 0x205f, 0x206f }, { 0x2800, 0x2800 },
  { 0x3164, 0x3164 }, { 0xd800, 0xdfff }, { 0xfe00, 0xfe0f }, { 0xfeff, 0xfeff }, { 0xffa0, 0xffa0 }, { 0xfff0, 0xfffb },
  { 0x1bca0, 0x1bca3 }, { 0x1d173, 0x1d17a }, { 0xe0000, 0xe0fff },
}
local FIRST_BITS = { 0, 0xc0, 0xe0, 0xf0 } -- what the first byte of a character of so many bytes has beside its bits

local function control(byte) return format("\\x%02x", byte:byte()) end

-- A character of several bytes, written out where it is one of those.
local function written_out(bytes)
  local code = bytes:byte() - (FIRST_BITS[#bytes] or 0)
  for at = 2, #bytes do code = code * 64 + bytes:byte(at) - 128 end
  for _, range in ipairs(ACTING) do
    if code < range[1] then return nil end
    if code <= range[2] then return format(code < 0x100 and "\\x%02x" or code < 0x10000 and "\\u%04x" or "\\U%08x", code) end
  end
end

-- Bytes that are no UTF-8, written out. (The ranges of RFC 3629, but for overlong forms.)
local function utf8_only(run)
  local at, parts = 1, {}
  while at <= #run do
    local found = run:match("^[\194-\223][\128-\191]", at) or run:match("^[\224-\239][\128-\191][\128-\191]", at)
      or run:match("^[\240-\244][\128-\191][\128-\191][\128-\191]", at)
    parts[#parts + 1] = found or format("\\x%02x", run:byte(at))
    at = at + (found and #found or 1)
  end
  return concat(parts)
end

-- As text_of of core/sharkstat/tshark/records.py: what would read as such a byte is told apart from it, and what would
-- read as the row of all others from that.
local function valid(text)
  if text == exact.OTHER then return "(other)" end
  if text == "(other)" then return "\\x28other)" end
  return (text:gsub("\\(x[0-9a-f][0-9a-f])", "\\x5c%1"):gsub("[\128-\255]+", utf8_only))
end

local function shown(text)
  return (text:gsub("%c", control):gsub("[\194-\244][\128-\191]+", written_out))
end

local function safe(text) return shown(valid(text)) end

-- A value that is a number, whatever form the tap gave it (digits, a 64-bit object); nil for another.
local number_of = exact.number

local function grouped(digits)
  local sign, whole, rest = digits:match("^(%-?)(%d+)(.*)$")
  if not whole or rest:find("e", 1, true) then return digits end
  return sign .. whole:reverse():gsub("(%d%d%d)", "%1,"):reverse():gsub("^,", "") .. rest
end

-- Seconds in full: as many decimals as there are.
local function seconds(nanoseconds)
  local sign, digits = "", exact.integer(nanoseconds)
  if digits:sub(1, 1) == "-" then sign, digits = "-", digits:sub(2) end
  digits = ("0"):rep(10 - #digits) .. digits
  local rest = digits:sub(-9):gsub("0+$", "")
  return sign .. digits:sub(1, -10) .. (rest ~= "" and "." .. rest or "")
end

local BYTE_UNITS = { "kB", "MB", "GB", "TB", "PB", "EB" }
local function humanised_bytes(count)
  count = tonumber(tostring(count))
  local size = math.abs(count)
  if size < 1000 then return exact.integer(count) .. " B" end
  for index, unit in ipairs(BYTE_UNITS) do
    size = size / 1000
    local text = format(size < 9.995 and "%.2f" or size < 99.95 and "%.1f" or "%.0f", size)
    if tonumber(text) < 1000 or index == #BYTE_UNITS then return (count < 0 and "-" or "") .. text .. " " .. unit end
  end
end

local LONG_UNITS = { { 86400, math.huge, "d" }, { 3600, 24, "h" }, { 60, 60, "min" }, { 1, 60, "s" } }
local function humanised_duration(nanoseconds)
  nanoseconds = tonumber(tostring(nanoseconds))
  local value, sign = math.abs(nanoseconds), nanoseconds < 0 and "-" or ""
  if value == 0 then return "0 s" end
  if value < 1000 then return sign .. format("%.0f ns", value) end
  if value < 1e6 then return sign .. format("%.3g \194\181s", value / 1e3) end
  if value < 999500000 then return sign .. format("%.3g ms", value / 1e6) end
  if value < 100e9 then return sign .. format("%.2f s", value / 1e9) end
  local whole, parts = floor(value / 1e9 + 0.5), {}
  for _, unit in ipairs(LONG_UNITS) do
    local number = floor(whole / unit[1]) % unit[2]
    if unit[2] == math.huge then number = floor(whole / unit[1]) end
    if (number > 0 or #parts > 0) and #parts < 3 then parts[#parts + 1] = format("%.0f %s", number, unit[3]) end
  end
  return sign .. concat(parts, " ")
end

local function is_moment(column)
  return column[2] == "time" or (column[2] == "duration" and (column.rule == "key" or column[1] == "stop"))
end

-- The texts of a set or a path. A sketch makes them when they are wanted.
local function list(value)
  local made = getmetatable(value)
  if not (made and made.texts) then return value end
  local texts = made.texts(value)
  table.sort(texts)
  return texts
end

function values.cell(column, value)
  if value == nil then return "-" end
  local kind, unit = column[2], column.unit or ""
  if type(value) == "table" and not exact.is_whole(value) then
    return safe(concat(list(value), kind == "set" and ", " or " / "))
  end
  if type(value) == "boolean" then return value and "yes" or "no" end
  local number = (kind == "integer" or kind == "number" or kind == "time" or kind == "duration") and number_of(value)
  if not number then return safe(tostring(value)) end
  if kind == "time" then return format("%.6f", tonumber(tostring(number)) / 1e9) end
  if kind == "duration" then return is_moment(column) and seconds(number) or humanised_duration(number) end
  if unit == "percent" then return format("%.1f %%", number) end
  if type(number) == "number" and number ~= floor(number) then return grouped(format("%.6g", number)) end
  if unit == "bytes" then return humanised_bytes(number) end
  if unit ~= "" and column.rule ~= "key" then return grouped(exact.escape(value)) end
  return exact.escape(value)
end

function values.heading(column)
  local text = column.title
  if not text then
    text = column[1]:gsub("_a_to_b$", "_A\226\134\146B"):gsub("_b_to_a$", "_B\226\134\146A"):gsub("_", " ")
    text = text:gsub("(%a)(%w*)", function(first, rest) return first:upper() .. rest end)
  end
  return safe(is_moment(column) and text .. " (s)" or text)
end

---------------------------------------------------------------------------------------------------
-- Values as they are

local function escaped(value) return exact.escape(type(value) == "string" and valid(value) or value) end

function values.exact(column, value)
  if value == nil then return "" end
  if type(value) == "table" and not exact.is_whole(value) then
    local mark, parts = column[2] == "set" and "," or "/", {}
    for index, part in ipairs(list(value)) do
      parts[index] = shown(escaped(part)):gsub("%" .. mark, "\\" .. mark)
    end
    return concat(parts, mark)
  end
  if type(value) == "boolean" then return tostring(value) end
  if column[2] == "time" or column[2] == "duration" then
    local number = number_of(value)
    if number then return seconds(number) end
  end
  return shown(escaped(value))
end

values.safe, values.number_of = safe, number_of

return values
