-- group,by=FIELD,sum=FIELD,...[,FILTER]: packets by the values of any fields, and what is counted of them. Declared
-- statistics run on this one tap (core/sharkstat/declared.py has the same grammar).
-- By itself: tshark -q -X lua_script:group.lua -X lua_script1:ip.src -z sharkstat,group,by=ip.src -r FILE
--
-- For the requests of each filter one function is written, which does what they ask for and nothing else. A field is read
-- once a packet, however many of them want it.

package.path = (__DIR__ or debug.getinfo(1, "S").source:match("@(.*[/\\])")) .. "?.lua;" .. package.path
local sharkstat = require "sharkstat"
local exact = require "sharkstat_exact"
local values = require "values"

-- The type of a field, which this tap must know, only an extractor tells, and tshark makes those only while it loads
-- scripts: by itself, this tap must have them named there.
for _, name in ipairs { ... } do sharkstat.extractor(name) end

local concat, floor = table.concat, math.floor
local NEAR = 8e15 -- nanoseconds from the capture's first packet: with an interval more, a double still holds them
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
    if not name:find("^[%w_][%w_.-]*$") then fail("%q is not a field name", name) end
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
-- Writing the function

-- What moment() tells, without any field.
local GIVEN = {
  ["frame.len"] = { "length", "integer" },
  ["frame.number"] = { "number", "integer" },
  ["frame.time_relative"] = { "ns", "duration" },
  ["frame.time_epoch"] = { "ns", "time" },
  ["frame.time"] = { "ns", "time" },
}

-- A function's locals are limited to 200.
local MOST_FIELDS = 80

-- All requests with the same filter are one function. Its lines, the values from outside that it needs, and the
-- fields that it reads: each once a packet, into a local for the first value and one for a list of the others.
local Writer = {}
Writer.__index = Writer

local function new_writer()
  return setmetatable({ reading = {}, lines = {}, values = {}, names = {}, fields = {}, count = 0 }, Writer)
end

-- A name in the written function for a value that it needs.
function Writer:outside(value)
  if not self.names[value] then
    self.values[#self.values + 1] = value
    self.names[value] = "v" .. #self.values
  end
  return self.names[value]
end

function Writer:put(text, ...) self.lines[#self.lines + 1] = select("#", ...) > 0 and text:format(...) or text end

-- The values behind the first; nil where there are none.
local function others(convert, _, ...)
  local list = {}
  for _, found in ipairs { ... } do list[#list + 1] = convert(found) end
  return list[1] ~= nil and list or nil
end

-- Writes the reading of a field, and gives the names of its first value and of the others, and its kind. `how` is
-- "key" or "number" (see values.lua).
function Writer:field(name, how)
  local known = self.fields[how .. " " .. name]
  if known then return known[1], known[2], known[3] end
  self.count = self.count + 1
  if self.count > MOST_FIELDS then fail("more than %d fields in requests with the same filter: split them over several runs", MOST_FIELDS) end
  local extractor = sharkstat.field(name)
  local kind = values.kind(extractor.type)
  local convert = kind[how]
  local first, more = "f" .. self.count, "m" .. self.count
  local read, change = self:outside(extractor), self:outside(convert)
  self.reading[#self.reading + 1] = concat({
    ("local %s, %s"):format(first, more),
    ("do local one, another = %s()"):format(read),
    ("if one then %s = %s"):format(first, convert == values.plain and "one()" or change .. "(one)"),
    ("if another then %s = %s(%s, %s())"):format(more, self:outside(others), change, read),
    ("if %s == nil and %s then %s = table.remove(%s, 1) if not %s[1] then %s = nil end end"):format(
      first, more, first, more, more, more), -- the first was no number
    "end end end",
  }, "\n")
  self.fields[how .. " " .. name] = { first, more, kind }
  return first, more, kind
end

-- The first of several fields that a packet has: the names of its values, and the columns' type.
function Writer:source(names, name)
  local first, more, kind = self:field(names[1], "key")
  if #names == 1 then return first, more, kind.column end
  local column = kind.column
  self:put("local %s_x, %s_m = %s, %s", name, name, first, more)
  for index = 2, #names do
    local next_first, next_more, next_kind = self:field(names[index], "key")
    self:put("if %s_x == nil then %s_x, %s_m = %s, %s end", name, name, name, next_first, next_more)
    if next_kind.column ~= column then column = "text" end
  end
  return name .. "_x", name .. "_m", column
end

local function all_values(first, more)
  if first == nil then return { NONE } end
  local list, seen = { first }, { [first] = true }
  for _, value in ipairs(more or {}) do
    if not seen[value] then
      seen[value] = true
      list[#list + 1] = value
    end
  end
  return list
end

-- The node of a tree for a path of levels: one table, which is the group's key.
local function node_of(tree, path)
  local key = {}
  for index, level in ipairs(path) do key[index] = ("%d:%s"):format(#level, level) end
  key = concat(key)
  tree[key] = tree[key] or path
  return tree[key]
end

-- A place below `above` in a tree: the nodes from the root down to it, and the places below it, by the values of the
-- next level. It is made once for all packets of one place.
local function place_of(above, level, value)
  local place = { nodes = { table.unpack(above.nodes) }, below = {}, tree = above.tree }
  local text = type(value) == "string" and value or sharkstat.escape(value)
  local parts = { text }
  if level.split then
    parts = {}
    local from = 1
    while from <= #text + 1 do
      local at = text:find(level.split, from, true) or #text + 1
      if at > from then table.insert(parts, level.reverse and 1 or #parts + 1, text:sub(from, at - 1)) end
      from = at + 1
    end
  end
  for _, part in ipairs(parts) do
    local path = { table.unpack(place.nodes[#place.nodes] or {}) }
    path[#path + 1] = part
    place.nodes[#place.nodes + 1] = node_of(above.tree, path)
  end
  above.below[value] = place
  return place
end

-- A time that no double holds is an object, which is another table key each time it is made: this gives the one that was
-- made first.
local function interning()
  local known = {}
  return function(time)
    if type(time) == "number" then return time end
    local digits = tostring(time)
    known[digits] = known[digits] or time
    return known[digits]
  end
end

-- Each writes the lines that give a key's value in the local `name`, and gives the column's type and whether the
-- lines have opened a loop.
local KEYS = {}

function KEYS.by(writer, key, name)
  local given = #key.fields == 1 and GIVEN[key.fields[1]]
  if given then
    if given[1] == "ns" then
      writer:put("local %s = %s(ns)", name, writer:outside(interning()))
    else
      writer:put("local %s = %s", name, given[1])
    end
    return given[2]
  end
  local first, more, column = writer:source(key.fields, name)
  if key.occurrence == "all" then
    writer:put("for _, %s in ipairs(%s(%s, %s)) do", name, writer:outside(all_values), first, more)
    return column, true
  elseif key.occurrence == "last" then
    writer:put("local %s = %s", name, first)
    writer:put("if %s then %s = %s[#%s] end", more, name, more, more)
  elseif key.occurrence == "first" then
    writer:put("local %s = %s", name, first)
  else
    fail("by=...:%s: no such occurrence; choose first, last or all", key.occurrence)
  end
  writer:put("if %s == nil then %s = %s end", name, name, writer:outside(NONE))
  return column
end

function KEYS.every(writer, key, name)
  local interval = key.interval
  if interval <= 0 or interval > 7 * 86400e9 then fail("every: give an interval of at most 7d") end
  local offset, interned = nil, interning() -- of the capture's beginning in its interval
  local function bucket(pinfo, ns)
    if not offset then
      local since = sharkstat.epoch(pinfo)
      if not since then return NONE end -- this packet has no time, and none before it
      local _, rest = exact.divided(exact.elapsed(ns, since), interval)
      offset = rest
    end
    if type(ns) == "number" and ns < NEAR and ns > -NEAR then
      local into = offset + ns
      local rest = into - floor(into / interval) * interval
      return ns - (rest < 0 and rest + interval or rest)
    end
    local _, rest = exact.divided(exact.plus(ns, offset), interval)
    return interned(exact.elapsed(rest, ns))
  end
  writer:put("local %s = %s(pinfo, ns)", name, writer:outside(bucket))
  return "time"
end

function KEYS.tree(writer, key, name)
  writer:put("local %s_p = %s", name, writer:outside({ nodes = {}, below = {}, tree = {} }))
  for index, level in ipairs(key.levels) do
    local first = writer:source(level.fields, name .. "_" .. index)
    writer:put("if %s ~= nil then %s_p = %s_p.below[%s] or %s(%s_p, %s, %s)", first, name, name, first,
      writer:outside(place_of), name, writer:outside(level), first)
  end
  writer:put(("end "):rep(#key.levels))
  writer:put("for _, %s in ipairs(%s_p.nodes[1] and %s_p.nodes or %s) do", name, name, name, writer:outside({ NONE }))
  return "path", true
end

local NUMBERS = { integer = true, number = true, duration = true }
local ORDERED = { integer = true, number = true, duration = true, time = true }

-- Fails where the values of a measure's field cannot be counted so; gives the type of its column.
local function check_type(measure, allowed)
  local given = GIVEN[measure.field]
  local column = given and given[2] or values.kind(sharkstat.field(measure.field).type).column
  if not allowed[column] then
    fail("%s=%s: the field is %s, not a number", measure.kind, measure.field, column == "address" and "an address" or "a " .. column)
  end
  return column
end

-- The lines `text` for every value of a field in the packet, %s in it being the value.
function Writer:each(first, more, text)
  self:put("if %s ~= nil then", first)
  self:put((text:gsub("%%s", first)))
  self:put("if %s then for m = 1, #%s do", more, more)
  self:put((text:gsub("%%s", more .. "[m]")))
  self:put("end end end")
end

-- Each writes the lines that count into slots of the group `g` from `at` on, and gives the columns' types and the
-- slots' first values, and whether they are times since 1970 rather than since the capture's first packet.
local MEASURES = {}

function MEASURES.count(writer, measure, at)
  if not measure.field then
    writer:put("g[%d] = g[%d] + 1", at, at)
  else
    local first, more = writer:field(measure.field, "key")
    writer:put("if %s ~= nil then g[%d] = g[%d] + 1 + (%s and #%s or 0) end", first, at, at, more, more)
  end
  return { "integer" }, { 0 }
end

-- A double holds neither large integers nor many nanoseconds: there sharkstat.plus adds.
local function addition(at, column, value)
  if column == "number" then return ("g[%d] = (g[%d] or 0) + %s"):format(at, at, value) end
  return ("do local s = (g[%d] or 0) + %s "):format(at, value)
    .. ("if s < 9e15 and s > -9e15 then g[%d] = s else g[%d] = plus(g[%d] or 0, %s) end end"):format(at, at, at, value)
end

local function sum(writer, measure, at, counted)
  local given, column = GIVEN[measure.field], check_type(measure, NUMBERS)
  local count = counted and (" g[%d] = g[%d] + 1"):format(at + 1, at + 1) or ""
  if given then
    writer:put(addition(at, column, given[1]) .. count)
  else
    local first, more = writer:field(measure.field, "number")
    writer:each(first, more, addition(at, column, "%s") .. count)
  end
  return column
end

function MEASURES.sum(writer, measure, at) return { sum(writer, measure, at, false) }, { "false" } end
function MEASURES.mean(writer, measure, at) return { sum(writer, measure, at, true), "integer" }, { "false", 0 } end

local function extreme(sign)
  return function(writer, measure, at)
    local given, column = GIVEN[measure.field], check_type(measure, ORDERED)
    local text = ("if not g[%d] or %%s %s g[%d] then g[%d] = %%s end"):format(at, sign, at, at)
    if given then
      writer:put((text:gsub("%%s", given[1])))
    else
      local first, more = writer:field(measure.field, "number")
      writer:each(first, more, text)
    end
    return { column }, { "false" }, column == "time" and not given
  end
end
MEASURES.min, MEASURES.max = extreme("<"), extreme(">")

function MEASURES.distinct(writer, measure, at)
  local given = GIVEN[measure.field]
  if given and given[2] ~= "time" then
    writer:put("g[%d][type(%s) == 'number' and %s or tostring(%s)] = true", at, given[1], given[1], given[1])
  else
    local first, more = writer:field(measure.field, "key")
    writer:each(first, more, ("g[%d][%%s] = true"):format(at))
  end
  return { "set" }, { "{}" }
end

function MEASURES.seen(writer, _, at)
  writer:put("if not g[%d] then g[%d], g[%d] = ns, ns", at, at, at + 1)
  writer:put("elseif ns < g[%d] then g[%d] = ns elseif ns > g[%d] then g[%d] = ns end", at, at, at + 1, at + 1)
  return { "time", "time" }, { "false", "false" }
end

-- Writes one request: it puts a group with its keys and slots into `all` for every different key.
function Writer:request(keys, measures, state)
  local columns, names, loops = {}, {}, 0
  self:put("do")
  for index, key in ipairs(keys) do
    names[index] = "k" .. index
    local column, looped = KEYS[key.kind](self, key, names[index])
    columns[index] = { names[index], column }
    if looped then loops = loops + 1 end
  end
  local before = self.lines
  self.lines = {}
  local slots = {}
  for _, measure in ipairs(measures) do
    local at = #columns + 1
    local types, initial, since_1970 = MEASURES[measure.kind](self, measure, at)
    for index, column in ipairs(types) do
      columns[#columns + 1] = { "m" .. at + index - 1, column, since_1970 = since_1970 }
      slots[#slots + 1] = initial[index]
    end
  end
  local counting = self.lines
  self.lines = before
  local depth = math.max(#names - 1, 0)
  self:put("local t0 = %s", self:outside(state.groups))
  for index = 1, depth do
    self:put("local t%d = t%d[%s]", index, index - 1, names[index])
    self:put("if not t%d then t%d = {} t%d[%s] = t%d end", index, index, index - 1, names[index], index)
  end
  local last, all = names[#names] or "1", self:outside(state.all)
  for _, slot in ipairs(slots) do names[#names + 1] = slot end
  self:put("local g = t%d[%s]", depth, last)
  self:put("if not g then g = { %s } t%d[%s] = g %s[#%s + 1] = g end", concat(names, ", "), depth, last, all, all)
  for _, line in ipairs(counting) do self:put(line) end
  self:put(("end "):rep(loops + 1))
  return columns
end

-- The function of a packet that all of it makes.
function Writer:written()
  local parameters = {}
  for index = 1, #self.values do parameters[index] = "v" .. index end
  local text = "local moment, plus, outside = ...\n"
    .. (#parameters > 0 and "local " .. concat(parameters, ", ") .. " = outside()\n" or "")
    .. "return function(pinfo)\nlocal number, length, ns = moment(pinfo)\n"
    .. concat(self.reading, "\n") .. "\n" .. concat(self.lines, "\n") .. "\nend"
  local chunk = assert(load(text, "=group", "t"))
  return chunk(sharkstat.moment, sharkstat.plus, function() return table.unpack(self.values) end)
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
  local kind = column[2]
  if kind == "set" then return set_of(value) end
  -- A time that is a text was a key, and is since 1970.
  if kind == "time" and (column.since_1970 or type(value) == "string") then return "@" .. sharkstat.integer(value) end
  return value
end

-- Requests of one filter that have not seen a packet yet share a writer; by itself each has its own.
local writers = {}

local function start(run)
  local keys, measures, filter = read(run.arguments)
  run.filter = filter
  local shared = writers[filter]
  if not shared or not sharkstat.hosted then
    shared = { writer = new_writer(), run = run }
    writers[filter] = shared
    local packet
    run:listen("frame", function(pinfo)
      packet = packet or shared.writer:written()
      packet(pinfo)
    end)
  end
  local state = { groups = {}, all = {} }
  local columns = shared.writer:request(keys, measures, state)
  run.columns = columns

  return function()
    local failure = shared.run.failure
    if failure then error(("packet %s: %s"):format(failure.packet, failure.message), 0) end
    for _, group in ipairs(state.all) do
      local row = {}
      for index, column in ipairs(columns) do
        local value = group[index]
        if value == false and index > #keys then value = nil end -- nothing was counted
        row[index] = row_value(value, column)
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
