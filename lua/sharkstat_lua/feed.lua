-- The lean feed: for packets that a Python statistic listens to, one line with their number, length,
-- time, what the taps said of them, and the fields that were declared. Nothing else leaves tshark.

local sharkstat = require "sharkstat"

local feed = {}

local escape, integer, moment = sharkstat.escape, sharkstat.integer, sharkstat.moment
local concat, floor = table.concat, math.floor

local LIST, ITEM = "\31", "\30"

local in_value = { ["\31"] = "\\u", ["\30"] = "\\v" }

local function value_text(value)
  if value == nil then return "\\N" end
  local text = escape(value)
  if text:find("[\30\31]") then text = text:gsub("[\30\31]", in_value) end
  return text
end

-- The text of the whole numbers that repeat from packet to packet is made once.
local KEPT = 65536
local whole_numbers = {}

local function number_text(value)
  local text = whole_numbers[value]
  if text then return text end
  if value ~= floor(value) then return escape(value) end
  text = integer(value)
  if value >= 0 and value < KEPT then whole_numbers[value] = text end
  return text
end

-- found() is found.value, for less.
local function time_text(found)
  local value = found()
  local secs, nsecs = value.secs, value.nsecs
  local sign = ""
  if secs < 0 or nsecs < 0 then sign, secs, nsecs = "-", -secs, -nsecs end
  return sign .. string.format("%.0f.%09.0f", secs, nsecs)
end

local function plain_text(found)
  local value = found()
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
  BOOLEAN = function(found) return found() and "1" or "0" end,
  RELATIVE_TIME = time_text,
  ABSOLUTE_TIME = time_text,
  IPv4 = sharkstat.digits,
  IPv6 = sharkstat.digits,
  ETHER = sharkstat.digits,
} do
  if ftypes[name] then TEXTS[ftypes[name]] = text end
end
for _, name in ipairs { "UINT8", "UINT16", "UINT24", "UINT32", "INT8", "INT16", "INT24", "INT32" } do
  if ftypes[name] then TEXTS[ftypes[name]] = function(found) return number_text(found()) end end
end

local function list_text(text_of, ...)
  local all = { ... }
  for index, found in ipairs(all) do all[index] = text_of(found) end
  return concat(all, LIST)
end

-- fields: names; count: of the subscriptions to come; emit(line). Gives a function that adds the
-- subscription `index` ({tap, filter, keys}, keys being those of the tap's info) and returns its run,
-- and one to be called at the end.
function feed.new(fields, count, emit)
  local extractors, texts = {}, {}
  for index, name in ipairs(fields) do
    extractors[index] = sharkstat.field(name)
    texts[index] = TEXTS[extractors[index].type] or plain_text
  end
  local field_count = #fields

  -- P, number, length, time, a word for each subscription, a word for each field.
  local words = { "P" }
  local first_hit = 5
  local first_field = first_hit + count
  local current, previous = nil, 0

  local function flush()
    if not current then return end
    emit(concat(words, "\t"))
    current, previous = nil, current
  end

  -- The fields are there only while the packet is, so they are read at its first hit.
  local function begin(number, length, ns)
    flush()
    current = number
    -- Most numbers are one more than the last: an empty word says so.
    words[2] = current == previous + 1 and "" or integer(current)
    words[3], words[4] = number_text(length), integer(ns)
    for at = first_hit, first_field - 1 do words[at] = "" end
    for index = 1, field_count do
      local extractor = extractors[index]
      local first, second = extractor()
      local text = ""
      if second then
        text = list_text(texts[index], extractor())
      elseif first then
        text = texts[index](first)
      end
      words[first_field + index - 1] = text
    end
  end

  local function start(index, subscription)
    local keys = subscription.keys
    local at = first_hit + index - 1
    return function(run)
      run.filter = subscription.filter
      run:listen(subscription.tap, function(pinfo, _, info)
        local number, length, ns = moment(pinfo)
        if number ~= current then begin(number, length, ns) end
        if #keys == 0 then
          local before = words[at]
          words[at] = before == "" and LIST or before .. LIST
          return
        end
        local values = {}
        for nth, key in ipairs(keys) do
          local value = info and info[key]
          -- The packet's own addresses, for taps that do not tell theirs.
          if key == "pinfo.src" then value = pinfo.src elseif key == "pinfo.dst" then value = pinfo.dst end
          if type(value) == "userdata" then value = run:address(value) end
          values[nth] = value_text(value)
        end
        words[at] = words[at] .. LIST .. concat(values, ITEM)
      end)
    end
  end

  local function listen(index, subscription)
    return sharkstat.start({ columns = {}, start = start(index, subscription) }, "", nil)
  end
  return listen, flush
end

return feed
