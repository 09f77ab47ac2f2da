-- group,by=FIELD,sum=FIELD,...[,FILTER]: packets by the values of any fields, and what is counted of them. Declared
-- statistics run on this one tap (core/sharkstat/declared.py has the same grammar).
-- By itself: tshark -q -X lua_script:group.lua -X lua_script1:ip.src -z sharkstat,group,by=ip.src -r FILE
--
-- For each request a function is written that does what it asks for and nothing else: it is called for every packet. A
-- field is read once a packet, however many requests want it.

package.path = __DIR__ .. "?.lua;" .. package.path
local sharkstat = require "sharkstat"
local values = require "values"

-- By itself, tshark makes fields only while it loads scripts, so they are named there (see io_stat.lua).
for _, name in ipairs { ... } do sharkstat.field(name) end

local concat, floor = table.concat, math.floor
local EXACT_INTEGER = 2 ^ 53
local FAR = 2 ^ 52 -- nanoseconds from the capture's first packet, beyond which a double may not hold a time
local NONE = {} -- the key of packets without the field

local function fail(text, ...) error("group: " .. text:format(...), 0) end

---------------------------------------------------------------------------------------------------
-- What is asked for

local function split(text, mark)
  local parts = {}
  for part in (text .. mark):gmatch("(.-)%" .. mark) do parts[#parts + 1] = part end
  return parts
end

-- FIELD[/FIELD...][:OPTION...]: the first of the fields that a packet has.
local function read_source(text)
  local words = split(text, ":")
  local source = { fields = split(words[1], "/"), options = {} }
  for index = 2, #words do source.options[index - 1] = words[index] end
  for _, name in ipairs(source.fields) do
    if not name:find("^[%w_][%w_.-]*$") then fail("%q is no field", name) end
  end
  return source
end

local ITEMS = {}
function ITEMS.by(value)
  local source = read_source(value)
  source.kind, source.occurrence = "by", source.options[1] or "first"
  return source, true
end
function ITEMS.every(value)
  local _, parameters = nil, sharkstat.read_arguments("group", "every=" .. value, { { name = "every", kind = "duration" } })
  return { kind = "every", interval = parameters.every }, true
end
function ITEMS.tree(value)
  local levels = {}
  for index, text in ipairs(split(value, "+")) do
    local level = read_source(text)
    for _, option in ipairs(level.options) do
      if option == "reverse" then level.reverse = true else level.split = option:match("^split(.)$") end
    end
    levels[index] = level
  end
  return { kind = "tree", levels = levels }, true
end
for _, kind in ipairs { "count", "sum", "min", "max", "mean", "distinct" } do
  ITEMS[kind] = function(value) return { kind = kind, field = value }, false end
end

local function read(arguments)
  local keys, measures, rest = {}, {}, arguments
  while true do
    local word, value, after = rest:match("^(%l+)=([^=,][^,]*),?(.*)$")
    if not (word and ITEMS[word]) then
      word, after = rest:match("^(%l+),?(.*)$")
      if word ~= "count" and word ~= "seen" then break end
      if rest:sub(#word + 1, #word + 1):find("[^,]") then break end
      measures[#measures + 1] = { kind = word }
    else
      local item, is_key = ITEMS[word](value)
      local list = is_key and keys or measures
      list[#list + 1] = item
    end
    rest = after
  end
  if #measures == 0 then measures[1] = { kind = "count" } end
  return keys, measures, rest
end

---------------------------------------------------------------------------------------------------
-- Reading fields, once a packet

-- What moment() tells, without any field.
local GIVEN = {
  ["frame.len"] = { "length", "integer" },
  ["frame.number"] = { "number", "integer" },
  ["frame.time_relative"] = { "ns", "duration" },
  ["frame.time_epoch"] = { "ns", "time" },
  ["frame.time"] = { "ns", "time" },
}

local readers = {}

-- A function of a packet's number: the field's first value, and a list of the others or nil. `how` is "key" or
-- "number" (see values.lua): numbers that a double does not hold are tshark's own objects, which add and compare.
local function reader(name, how)
  local known = readers[how .. " " .. name]
  if known then return known end
  local extractor = sharkstat.field(name)
  local kind = values.kind(extractor.type)
  local convert = kind[how]
  local current, first, more
  local function read_field(number)
    if number == current then return first, more end
    current, first, more = number, nil, nil
    local one, another = extractor()
    if one then
      first = convert(one)
      if another then
        more = { select(2, extractor()) }
        for index = 1, #more do more[index] = convert(more[index]) end
      end
    end
    return first, more
  end
  known = { read = read_field, kind = kind }
  readers[how .. " " .. name] = known
  return known
end

local function all_of(source)
  return function(number)
    for _, field in ipairs(source) do
      local first, more = field.read(number)
      if first ~= nil then
        if not more then return { first } end
        local list, seen = { first }, { [first] = true }
        for _, value in ipairs(more) do
          if not seen[value] then
            seen[value] = true
            list[#list + 1] = value
          end
        end
        return list
      end
    end
    return { NONE }
  end
end

local function last_of(source)
  return function(number)
    for _, field in ipairs(source) do
      local first, more = field.read(number)
      if first ~= nil then
        if more then return more[#more] end
        return first
      end
    end
  end
end

local function level_text(value)
  local text = type(value) == "string" and value or sharkstat.escape(value)
  if text:find("\31", 1, true) then text = text:gsub("\31", "\\x1f") end
  return text
end

-- The nodes of a tree that a packet belongs to, from the root down: levels joined by the character 0x1f.
local function nodes_of(levels)
  return function(number)
    local nodes, path = {}, nil
    for _, level in ipairs(levels) do
      local value
      for _, field in ipairs(level) do
        value = field.read(number)
        if value ~= nil then break end
      end
      if value == nil then break end
      local parts = { level_text(value) }
      if level.split then
        parts = {}
        for part in level_text(value):gmatch("[^%" .. level.split .. "]+") do
          table.insert(parts, level.reverse and 1 or #parts + 1, part)
        end
      end
      for _, part in ipairs(parts) do
        path = path and path .. "\31" .. part or part
        nodes[#nodes + 1] = path
      end
    end
    return nodes[1] and nodes or { NONE }
  end
end

-- (secs * 10^9 + nsecs) modulo the interval: digit by digit, since a double does not hold the whole.
local function modulo(secs, nsecs, interval)
  local whole = secs % interval
  for _ = 1, 9 do whole = whole * 10 % interval end
  return (whole + nsecs) % interval
end

---------------------------------------------------------------------------------------------------
-- Writing the function

local Writer = {}
Writer.__index = Writer

-- A name in the written function for a value that it needs.
function Writer:outside(value)
  local name = "v" .. #self.values + 1
  self.values[#self.values + 1] = value
  return name
end

function Writer:put(text, ...) self.lines[#self.lines + 1] = select("#", ...) > 0 and text:format(...) or text end

-- The sources of a key or level: readers in order, and their common column type.
local function sources_of(names)
  local list, column = {}, nil
  for index, name in ipairs(names) do
    list[index] = reader(name, "key")
    local kind = list[index].kind.column
    if column and column ~= kind then kind = "text" end
    column = kind
  end
  return list, column
end

local KEYS = {}

function KEYS.by(writer, key, name)
  local given = #key.fields == 1 and GIVEN[key.fields[1]]
  if given then
    writer:put("local %s = %s", name, given[1])
    return given[2]
  end
  local sources, column = sources_of(key.fields)
  if key.occurrence == "all" then
    writer:put("for _, %s in ipairs(%s(number)) do", name, writer:outside(all_of(sources)))
    writer.loops = writer.loops + 1
    return column
  elseif key.occurrence == "last" then
    writer:put("local %s = %s(number)", name, writer:outside(last_of(sources)))
  elseif key.occurrence == "first" then
    writer:put("local %s = %s(number)", name, writer:outside(sources[1].read))
    for index = 2, #sources do
      writer:put("if %s == nil then %s = %s(number) end", name, name, writer:outside(sources[index].read))
    end
  else
    fail("by=...:%s: take first, last or all", key.occurrence)
  end
  writer:put("if %s == nil then %s = %s end", name, name, writer:outside(NONE))
  return column
end

function KEYS.every(writer, key, name)
  local interval = key.interval
  if interval <= 0 or interval > 7 * 86400e9 then fail("every: take an interval of up to 7 d") end
  local offset, secs, nsecs
  local function bucket(pinfo, ns)
    if not offset then -- of the capture's first packet in its interval
      secs, nsecs = sharkstat.epoch(pinfo)
      offset = (modulo(secs, nsecs, interval) - ns) % interval
    end
    local start = floor((offset + ns) / interval) * interval - offset
    if start < FAR and start > -FAR then return start end
    local time = sharkstat.field("frame.time_epoch")().value -- the run reads exact times where there are such
    local past = modulo(time.secs, time.nsecs, interval)
    secs, nsecs = time.secs - floor(past / 1e9), time.nsecs - past % 1e9
    if nsecs < 0 then secs, nsecs = secs - 1, nsecs + 1e9 end
    return ("%.0f%09.0f"):format(secs, nsecs)
  end
  writer:put("local %s = %s(pinfo, ns)", name, writer:outside(bucket))
  return "time"
end

function KEYS.tree(writer, key, name)
  local levels = {}
  for index, level in ipairs(key.levels) do
    levels[index] = sources_of(level.fields)
    levels[index].split, levels[index].reverse = level.split, level.reverse
  end
  writer:put("for _, %s in ipairs(%s(number)) do", name, writer:outside(nodes_of(levels)))
  writer.loops = writer.loops + 1
  return "path"
end

local function too_large() fail("a sum is too large to be exact") end

-- The sum of 64-bit integers, which are tshark's own objects and wrap around without a word.
local function add_wide(sum, value)
  if not sum then return value end
  local total = sum + value
  local rises = not (value < (value - value))
  if rises == (total < sum) then too_large() end
  return total
end

-- For every value of a field in the packet: `text` with %s the value.
function Writer:each(field, text)
  self:put("local x, more = %s(number)", self:outside(field.read))
  self:put("if x ~= nil then")
  self:put((text:gsub("%%s", "x")))
  self:put("if more then for m = 1, #more do")
  self:put((text:gsub("%%s", "more[m]")))
  self:put("end end end")
end

local NUMBERS = { integer = true, number = true, duration = true }

local function check_type(measure, column, allowed)
  if not allowed[column] then
    fail("%s=%s: the field is %s", measure.kind, measure.field, column == "address" and "an address" or "a " .. column)
  end
end

local function numeric(measure, allowed)
  local field = reader(measure.field, "number")
  check_type(measure, field.kind.column, allowed)
  return field
end

local ORDERED = { integer = true, number = true, duration = true, time = true }
local MEASURES = {}

-- Each puts the lines that count into slots of the group `g` from `at` on, and gives the columns' types.
function MEASURES.count(writer, measure, at)
  if not measure.field then
    writer:put("g[%d] = g[%d] + 1", at, at)
  else
    local field = reader(measure.field, "key")
    writer:put("local x, more = %s(number)", writer:outside(field.read))
    writer:put("if x ~= nil then g[%d] = g[%d] + 1 + (more and #more or 0) end", at, at)
  end
  return { "integer" }, { 0 }
end

local function sum(writer, measure, at, counted)
  local given = GIVEN[measure.field]
  if given then
    check_type(measure, given[2], NUMBERS)
    writer:put("g[%d] = (g[%d] or 0) + %s", at, at, given[1])
    writer:put("if g[%d] >= 2^53 then %s() end", at, writer:outside(too_large))
    if counted then writer:put("g[%d] = g[%d] + 1", at + 1, at + 1) end
    return given[2]
  end
  local field = numeric(measure, NUMBERS)
  local wide = field.kind.column == "integer" and field.kind.key ~= field.kind.number
  local add = ("g[%d] = (g[%d] or 0) + %%s"):format(at, at)
  if wide then
    add = ("g[%d] = %s(g[%d], %%s)"):format(at, writer:outside(add_wide), at)
  elseif field.kind.column == "duration" then
    add = ("g[%d] = g[%d] and g[%d] + %%s or %%s"):format(at, at, at)
  end
  if counted then add = add .. (" g[%d] = g[%d] + 1"):format(at + 1, at + 1) end
  writer:each(field, add)
  return field.kind.column
end

function MEASURES.sum(writer, measure, at) return { sum(writer, measure, at, false) }, { "false" } end
function MEASURES.mean(writer, measure, at) return { sum(writer, measure, at, true), "integer" }, { "false", 0 } end

local function extreme(sign)
  return function(writer, measure, at)
    local given = GIVEN[measure.field]
    local text = ("if not g[%d] or %%s %s g[%d] then g[%d] = %%s end"):format(at, sign, at, at)
    if given then
      writer:put((text:gsub("%%s", given[1])))
      return { given[2] }, { "false" }
    end
    local field = numeric(measure, ORDERED)
    writer:each(field, text)
    return { field.kind.column }, { "false" }
  end
end
MEASURES.min, MEASURES.max = extreme("<"), extreme(">")

function MEASURES.distinct(writer, measure, at)
  local given = GIVEN[measure.field]
  if given and given[2] ~= "time" then
    writer:put("g[%d][%s] = true", at, given[1])
  else
    writer:each(reader(measure.field, "key"), ("g[%d][%%s] = true"):format(at))
  end
  return { "set" }, { "{}" }
end

function MEASURES.seen(writer, _, at)
  writer:put("if not g[%d] then g[%d], g[%d] = ns, ns", at, at, at + 1)
  writer:put("elseif ns < g[%d] then g[%d] = ns elseif ns > g[%d] then g[%d] = ns end", at, at, at + 1, at + 1)
  return { "time", "time" }, { "false", "false" }
end

---------------------------------------------------------------------------------------------------
-- Rows

local function set_of(values_seen)
  local list = {}
  for value in pairs(values_seen) do
    list[#list + 1] = type(value) == "string" and value or sharkstat.escape(value)
  end
  return list
end

local function row_value(value, column)
  if value == NONE or value == nil then return nil end
  if column == "path" then return split(value, "\31") end
  if column == "set" then return set_of(value) end
  local kind = type(value)
  if kind == "userdata" then -- a 64-bit integer or a time
    if column ~= "time" and column ~= "duration" then return tostring(value) end
    value, kind = values.nanoseconds(value), "string"
  end
  if column == "time" and kind == "string" then return "@" .. value end -- since 1970
  if kind == "number" and (value >= EXACT_INTEGER or value <= -EXACT_INTEGER) then
    if column == "duration" or column == "time" then return sharkstat.integer(value) end
    if column == "integer" and not (math.type and math.type(value) == "integer") then too_large() end
  end
  return value
end

local function start(run)
  local keys, measures, filter = read(run.arguments)
  run.filter = filter
  local writer = setmetatable({ lines = {}, values = {}, loops = 0 }, Writer)
  local names, columns = {}, {}
  for index, key in ipairs(keys) do
    names[index] = "k" .. index
    columns[index] = { "k" .. index, KEYS[key.kind](writer, key, names[index]) }
  end

  local all, groups = {}, {}
  local body, slots = writer.lines, {}
  writer.lines = {}
  for _, measure in ipairs(measures) do
    local at = #columns + 1
    writer:put("do")
    local types, initial = MEASURES[measure.kind](writer, measure, at)
    writer:put("end")
    for index, column in ipairs(types) do
      columns[#columns + 1] = { "m" .. at + index - 1, column }
      slots[#slots + 1] = initial[index]
    end
  end
  local counting = writer.lines
  writer.lines = body
  local made = concat(names, ", ") .. (#names > 0 and ", " or "") .. concat(slots, ", ")
  writer:put("local t0 = groups")
  for index = 1, #names - 1 do
    writer:put("local t%d = t%d[%s]", index, index - 1, names[index])
    writer:put("if not t%d then t%d = {} t%d[%s] = t%d end", index, index, index - 1, names[index], index)
  end
  local last, deepest = names[#names] or "1", math.max(#names - 1, 0)
  writer:put("local g = t%d[%s]", deepest, last)
  writer:put("if not g then g = { %s } t%d[%s] = g all[#all + 1] = g end", made, deepest, last)
  for _, line in ipairs(counting) do writer:put(line) end
  writer:put(("end "):rep(writer.loops))

  local parameters = {}
  for index = 1, #writer.values do parameters[index] = "v" .. index end
  local text = "local moment, groups, all, ipairs" .. (#parameters > 0 and ", " or "") .. concat(parameters, ", ")
    .. " = ...\nreturn function(pinfo)\nlocal number, length, ns = moment(pinfo)\n"
    .. concat(writer.lines, "\n") .. "\nend"
  local chunk = assert(load(text, "=group", "t"))
  run:listen("frame", chunk(sharkstat.moment, groups, all, ipairs, table.unpack(writer.values)))
  run.columns = columns

  return function()
    for _, group in ipairs(all) do
      local row = {}
      for index, column in ipairs(columns) do
        local value = group[index]
        if value == false and index > #keys then value = nil end -- nothing was counted
        row[index] = row_value(value, column[2])
      end
      run:row(row)
    end
  end
end

sharkstat.register {
  name = "group",
  z_name = "sharkstat,group",
  title = "Groups of packets",
  columns = {},
  start = start,
}
