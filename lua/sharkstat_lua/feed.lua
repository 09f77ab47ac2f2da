-- The lean feed: for packets that a Python statistic listens to, one line with their number, length,
-- time, what the taps said of them, and the fields that were declared. Nothing else leaves tshark.

local sharkstat = require "sharkstat"

local feed = {}

local escape, integer, relative_ns = sharkstat.escape, sharkstat.integer, sharkstat.relative_ns
local concat, floor = table.concat, math.floor

local LIST, ITEM = "\31", "\30"

local in_value = { ["\31"] = "\\u", ["\30"] = "\\v" }

local function value_text(value)
  if value == nil then return "\\N" end
  local text = escape(value)
  if text:find("[\30\31]") then text = text:gsub("[\30\31]", in_value) end
  return text
end

-- The text of what repeats from packet to packet is made once: whole numbers by value, addresses by
-- their bytes.
local KEPT = 65536
local whole_numbers, addresses, kept_addresses = {}, {}, 0

local function number_text(value)
  local text = whole_numbers[value]
  if text then return text end
  if value ~= floor(value) then return escape(value) end
  text = integer(value)
  if value >= 0 and value < KEPT then whole_numbers[value] = text end
  return text
end

local function address_text(found)
  local raw = found.range:raw()
  local text = addresses[raw]
  if text then return text end
  if kept_addresses >= KEPT then addresses, kept_addresses = {}, 0 end
  text = sharkstat.digits(found)
  addresses[raw], kept_addresses = text, kept_addresses + 1
  return text
end

local function time_text(found)
  local value = found.value
  local secs, nsecs = value.secs, value.nsecs
  local sign = ""
  if secs < 0 or nsecs < 0 then sign, secs, nsecs = "-", -secs, -nsecs end
  return sign .. string.format("%.0f.%09.0f", secs, nsecs)
end

local function plain_text(found)
  local value = found.value
  if type(value) == "number" then return number_text(value) end
  if type(value) == "string" then return value_text(value) end
  return value_text(found.display ~= "" and found.display or tostring(value))
end

-- A field's value as tshark's -T fields prints it, but for booleans, times and addresses: those have
-- one form here, whatever the version of tshark.
local TEXTS = {}
for name, text in pairs {
  PROTOCOL = function() return "1" end,
  NONE = function() return "1" end,
  BOOLEAN = function(found) return found.value and "1" or "0" end,
  RELATIVE_TIME = time_text,
  ABSOLUTE_TIME = time_text,
  IPv4 = address_text,
  IPv6 = address_text,
  ETHER = address_text,
} do
  if ftypes[name] then TEXTS[ftypes[name]] = text end
end
for _, name in ipairs { "UINT8", "UINT16", "UINT24", "UINT32", "INT8", "INT16", "INT24", "INT32" } do
  if ftypes[name] then TEXTS[ftypes[name]] = function(found) return number_text(found.value) end end
end

local function reader(name)
  local field = sharkstat.field(name)
  local text_of = TEXTS[field.type] or plain_text
  return function()
    local first, second = field()
    if not first then return "" end
    if not second then return text_of(first) end
    local all = {}
    for index, found in ipairs { field() } do all[index] = text_of(found) end
    return concat(all, LIST)
  end
end

-- fields: names; count: of the subscriptions to come; emit(line). Gives a function that adds the
-- subscription `index` ({tap, filter, keys}, keys being those of the tap's info) and returns its run,
-- and one to be called at the end.
function feed.new(fields, count, emit)
  local readers = {}
  for index, name in ipairs(fields) do readers[index] = reader(name) end

  local current
  local line = { "P" }
  local hits = {}

  local function flush()
    if not current then return end
    line[5] = concat(hits, "\t")
    emit(concat(line, "\t"))
    current = nil
  end

  -- The fields are there only while the packet is, so they are read at its first hit.
  local function begin(pinfo)
    flush()
    current = pinfo.number
    line[2], line[3], line[4] = integer(current), number_text(pinfo.len), integer(relative_ns(pinfo))
    for index = 1, #readers do line[index + 5] = readers[index]() end
    for index = 1, count do hits[index] = "" end
  end

  local function start(index, subscription)
    local keys = subscription.keys
    return function(run)
      run.filter = subscription.filter
      run:listen(subscription.tap, function(pinfo, _, info)
        if pinfo.number ~= current then begin(pinfo) end
        if #keys == 0 then
          hits[index] = hits[index] .. LIST
          return
        end
        local values = {}
        for at, key in ipairs(keys) do
          local value = info and info[key]
          -- The packet's own addresses, for taps that do not tell theirs.
          if key == "pinfo.src" then value = pinfo.src elseif key == "pinfo.dst" then value = pinfo.dst end
          if type(value) == "userdata" then value = run:address(value) end
          values[at] = value_text(value)
        end
        hits[index] = hits[index] .. LIST .. concat(values, ITEM)
      end)
    end
  end

  local function listen(index, subscription)
    return sharkstat.start({ columns = {}, start = start(index, subscription) }, "", nil)
  end
  return listen, flush
end

return feed
