-- The lean feed: for packets that a Python statistic listens to, one line with their number, length,
-- time, what the taps said of them, and the fields that were declared. Nothing else leaves tshark.

local sharkstat = require "sharkstat"
local values = require "values"

local feed = {}

local integer, moment = sharkstat.integer, sharkstat.moment
local concat = table.concat
local value_text, number_text = values.text, values.number_text

-- The packet's own addresses and ports, for taps that do not tell theirs.
local OF_PACKET = {
  ["pinfo.src"] = "src", ["pinfo.dst"] = "dst", ["pinfo.src_port"] = "src_port", ["pinfo.dst_port"] = "dst_port",
}

local LIST, ITEM = "\31", "\30"
local EMPTY = "\\e"  -- a value without a character; a word that is empty says that the packet has not the field

local function list_text(text_of, ...)
  local all = { ... }
  for index, found in ipairs(all) do all[index] = text_of(found) end
  return concat(all, LIST)
end

-- fields: names; count: of the subscriptions to come; emit(line). Gives a function that adds the
-- subscription `index` ({tap, filter, keys}, keys being those of the tap's info) and returns its run,
-- one to be called at the end, and one to be called with a packet's number before anything of it is printed.
-- Of those in `named`, the values' names are told, too.
function feed.new(fields, named, count, emit)
  local extractors, texts = {}, {}
  for index, name in ipairs(fields) do
    extractors[index] = sharkstat.field(name)
    local kind = extractors[index].type
    texts[index] = values.writer(kind)
    if named[name] then texts[index] = values.naming(name, kind, texts[index]) end
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
        if text == "" then text = EMPTY end
      end
      words[first_field + index - 1] = text
    end
  end

  -- Lets go of what belongs to packets before this one.
  local function before(number)
    if current and current ~= number then flush() end
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
          local of_packet = OF_PACKET[key]
          local value
          if of_packet then value = pinfo[of_packet] else value = info and info[key] end
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
  return listen, flush, before
end

return feed
