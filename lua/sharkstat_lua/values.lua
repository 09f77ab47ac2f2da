-- How a field's value is written, one form for each type whatever the version of tshark: as tshark's -T fields prints
-- it, but for booleans, times and addresses. The lean feed and the groups share it, so that both engines agree.

local sharkstat = require "sharkstat"
local exact = require "sharkstat_exact"

local escape, integer = sharkstat.escape, sharkstat.integer
local floor, format = math.floor, string.format

local values = {}

local in_value = { ["\31"] = "\\u", ["\30"] = "\\v" }

-- Any Lua value as one value of a list.
function values.text(value)
  if value == nil then return "\\N" end
  local text = escape(value)
  if text:find("[\30\31]") then text = text:gsub("[\30\31]", in_value) end
  return text
end

-- The text of the whole numbers that repeat from packet to packet is made once.
local KEPT = 65536
local whole_numbers = {}

function values.number_text(value)
  local text = whole_numbers[value]
  if text then return text end
  if value ~= floor(value) then return escape(value) end
  text = integer(value)
  if value >= 0 and value < KEPT then whole_numbers[value] = text end
  return text
end

-- The nanoseconds of a field's time. found() is found.value, for less.
local function nanoseconds(found) return exact.nanoseconds(found()) end

-- Seconds and nine decimals.
local function time_text(found)
  local value = found()
  local secs, nsecs = value.secs, value.nsecs
  if secs >= 0 and nsecs >= 0 and nsecs < 1e9 and secs < 2 ^ 53 then return format("%.0f.%09.0f", secs, nsecs) end
  local sign, digits = integer(exact.nanoseconds(value)):match("^(-?)(%d+)$")
  digits = ("0"):rep(10 - #digits) .. digits
  return sign .. digits:sub(1, -10) .. "." .. digits:sub(-9)
end

-- An address in digits; where tshark resolves names, its name is kept for the host.
local function address_text(found)
  local digits = sharkstat.digits(found)
  if sharkstat.resolving then sharkstat.keep_name(digits, tostring(found.value)) end
  return digits
end

local function shown_text(found)
  local value = found()
  if type(value) == "string" then return value end
  return found.display ~= "" and found.display or tostring(value)
end

local function there() return true end
local function plain(found) return found() end
values.plain = plain

-- A 64-bit integer is one of tshark's own objects, which wrap around without a word.
local function wide(found) return exact.number(found()) end
local function digits(found) return tostring(found()) end
-- What is not a number is no value.
local function float(found)
  local value = found()
  if value == value then return value end
end

-- What a column of such a field is, how its value is had as something that a table may have for a key, and as a
-- number that may be added and compared, where it is one.
local KINDS = {}
local function kind(column, names, key, number)
  for name in names:gmatch("%S+") do
    if ftypes[name] then KINDS[ftypes[name]] = { column = column, key = key, number = number } end
  end
end
kind("boolean", "PROTOCOL NONE", there)
kind("boolean", "BOOLEAN", plain)
kind("address", "IPv4 IPv6 ETHER", address_text)
kind("integer", "CHAR UINT8 UINT16 UINT24 UINT32 INT8 INT16 INT24 INT32 FRAMENUM", plain, plain)
kind("integer", "UINT40 UINT48 UINT56 UINT64 INT40 INT48 INT56 INT64", digits, wide)
kind("number", "FLOAT DOUBLE", float, float)
kind("duration", "RELATIVE_TIME", function(found) return integer(nanoseconds(found)) end, nanoseconds)
kind("time", "ABSOLUTE_TIME", function(found) return integer(nanoseconds(found)) end, nanoseconds)
local OTHER = { column = "text", key = shown_text }

-- The kind of a field of that type (tshark's number for it): column, key(found), number(found). Numbers add with
-- sharkstat.plus, and compare; times are nanoseconds.
function values.kind(type_number) return KINDS[type_number] or OTHER end

-- tshark's name for a value, without the number: "AAAA" of "AAAA (28) (IP6 Address)" and of "AAAA (IPv6 Address) (28)",
-- "TLS 1.2" of "TLS 1.2 (0x0303)". Nil where it has none.
local function name_of(display)
  local text, number, rest = display:match("^(.*%S) %((0?x?%x+)%)(.*)$")
  if not text or text:find("^Unknown") or not number:find("%d") then return nil end
  return text:match("^([%u%d_-]+) %(.*%)$") or rest:find("^ %(") and text or text .. rest
end

-- What converts a field's value, and keeps its name for the host (Table.names) where it is seen for the first time.
function values.naming(name, type_number, convert)
  if values.kind(type_number).column ~= "integer" then return convert end
  local known = {}
  return function(found)
    local value = convert(found)
    if value ~= nil and not known[value] then
      known[value] = true
      local word = name_of(found.display)
      if word then sharkstat.keep_name(name .. "=" .. escape(value), word) end
    end
    return value
  end
end

-- tshark's words for the types. Its table `ftypes` has others beside them (lengths, results) with the same numbers.
local WORDS = "NONE PROTOCOL BOOLEAN CHAR UINT8 UINT16 UINT24 UINT32 UINT40 UINT48 UINT56 UINT64 INT8 INT16 INT24 INT32 INT40 "
  .. "INT48 INT56 INT64 IEEE_11073_SFLOAT IEEE_11073_FLOAT FLOAT DOUBLE ABSOLUTE_TIME RELATIVE_TIME STRING STRINGZ "
  .. "UINT_STRING ETHER BYTES UINT_BYTES IPv4 IPv6 IPXNET FRAMENUM GUID OID EUI64 AX25 VINES REL_OID SYSTEM_ID STRINGZPAD "
  .. "FCWWN STRINGZTRUNC"

local type_names = {}
for word in WORDS:gmatch("%S+") do
  if ftypes[word] then type_names[ftypes[word]] = word end
end

-- tshark's word for a type: "UINT32", "RELATIVE_TIME".
function values.type_name(type_number) return type_names[type_number] or "NONE" end

-- The function that writes a field of that type for the feed: FieldInfo to text.
function values.writer(type_number)
  local known = values.kind(type_number)
  if known.column == "boolean" then
    return function(found) return known.key(found) and "1" or "0" end
  elseif known.column == "time" or known.column == "duration" then
    return time_text
  elseif known.key == plain or known.key == float then
    return function(found)
      local value = found()
      return type(value) == "number" and values.number_text(value) or values.text(shown_text(found))
    end
  elseif known == OTHER then
    return function(found) return values.text(shown_text(found)) end
  end
  return known.key
end

return values
