-- The lean feed: for packets that a Python statistic listens to, one line with their number, length,
-- time, what the taps said of them, and the fields that were declared. Nothing else leaves tshark.

local sharkstat = require "sharkstat"

local feed = {}

local escape, integer = sharkstat.escape, sharkstat.integer
local concat = table.concat

local LIST, ITEM = "\31", "\30"

local in_value = { ["\31"] = "\\u", ["\30"] = "\\v" }

local function value_text(value)
  if value == nil then return "\\N" end
  local text = escape(value)
  if text:find("[\30\31]") then text = text:gsub("[\30\31]", in_value) end
  return text
end

local ADDRESS_TYPES = {}
for _, name in ipairs { "IPv4", "IPv6", "ETHER" } do
  if ftypes[name] then ADDRESS_TYPES[ftypes[name]] = true end
end

-- A field's value as tshark's -T fields prints it, but for booleans, times and addresses: those have
-- one form here, whatever the version of tshark.
local function reader(name)
  local field = sharkstat.field(name)
  local kind
  local function text_of(found)
    if kind == ftypes.PROTOCOL or kind == ftypes.NONE then return "1" end
    local value = found.value
    if kind == ftypes.BOOLEAN then return value and "1" or "0" end
    if kind == ftypes.RELATIVE_TIME or kind == ftypes.ABSOLUTE_TIME then
      local secs, nsecs = value.secs, value.nsecs
      local sign = ""
      if secs < 0 or nsecs < 0 then sign, secs, nsecs = "-", -secs, -nsecs end
      return sign .. string.format("%.0f.%09.0f", secs, nsecs)
    end
    if type(value) == "number" then return escape(value) end
    if type(value) == "string" then return value_text(value) end
    if ADDRESS_TYPES[kind] then return sharkstat.digits(found) end
    return value_text(found.display ~= "" and found.display or tostring(value))
  end
  return function()
    local first, second = field()
    if not first then return "" end
    kind = kind or first.type
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

  local current, line
  local hits = {}

  local function flush()
    if not current then return end
    line[4] = concat(hits, "\t")
    emit(concat(line, "\t"))
    current = nil
  end

  -- The fields are there only while the packet is, so they are read at its first hit.
  local function begin(pinfo)
    flush()
    current = pinfo.number
    line = { "P", integer(current) .. "\t" .. integer(pinfo.len), integer(sharkstat.relative_ns(pinfo)), "" }
    for index = 1, #readers do line[index + 4] = readers[index]() end
    for index = 1, count do hits[index] = "" end
  end

  local function start(index, subscription)
    local keys = subscription.keys
    return function(run)
      run.filter = subscription.filter
      run:listen(subscription.tap, function(pinfo, _, info)
        if pinfo.number ~= current then begin(pinfo) end
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
