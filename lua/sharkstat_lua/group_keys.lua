-- The keys of group.lua: how each is read from its text, and the lines that give its value in a packet.
-- core/sharkstat/statistics/keys.py has the grammar, counted_keys.py does the same in Python.

local sharkstat = require "sharkstat"
local exact = require "sharkstat_exact"
local values = require "values"
local Writer = require "group_writer"

local concat, floor = table.concat, math.floor
local fail, GIVEN = Writer.fail, Writer.given
local NEAR = 8e15 -- nanoseconds from the capture's first packet: with an interval more, a double still holds them
local NONE = {} -- the key of packets without the field

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

local READ = {}
function READ.by(value)
  local source = read_source(value)
  if source.options[#source.options] == "names" then
    source.named = true
    table.remove(source.options)
  end
  source.kind, source.occurrence = "by", source.options[1] or "first"
  local types = (source.options[2] or ""):match("^is%+(.+)$")
  source.types = types and split(types, "+")
  return source
end
function READ.every(value)
  local _, parameters = nil, sharkstat.read_arguments("group", "every=" .. value, { { name = "every", kind = "duration" } })
  return { kind = "every", interval = parameters.every }
end
function READ.tree(value)
  local levels = {}
  for index, text in ipairs(split(value, "+")) do
    local level = read_source(text)
    for _, option in ipairs(level.options) do
      if option == "reverse" then level.reverse = true else level.split = option:match("^split(.)$") end
    end
    levels[index] = level
  end
  return { kind = "tree", levels = levels }
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

-- All values of a packet as one key: the same table for the same values, until they are forgotten.
local function sets(key)
  local known = {}
  function key.forget() known = {} end
  return function(first, more)
    if first == nil then return NONE end
    local texts, sized = {}, {}
    for index, value in ipairs(all_values(first, more)) do
      texts[index] = type(value) == "string" and value or sharkstat.escape(value)
    end
    table.sort(texts)
    for index, text in ipairs(texts) do sized[index] = ("%d:%s"):format(#text, text) end
    local key = concat(sized)
    known[key] = known[key] or texts
    return known[key]
  end
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

-- What is made once for a key, however many functions count by it: equal values must be the same table in all of them.
local function kept(key, name, make)
  if key[name] == nil then key[name] = make() end
  return key[name]
end

-- Each writes the lines that give a key's value in the local `name`, and gives the column's type and whether the
-- lines have opened a loop.
local KEYS = {}

-- Fails where a key's field has another type than those that its expression can be used for.
local function check_types(key)
  for _, name in ipairs(key.fields) do
    local column = GIVEN[name] and GIVEN[name][2] or values.kind(sharkstat.field(name).type).column
    local known = false
    for _, allowed in ipairs(key.types) do known = known or allowed == column end
    if not known then
      local article = (column == "address" or column == "integer") and "an" or "a"
      fail("%s: the field is %s %s, not %s", name, article, column, concat(key.types, " or "))
    end
  end
end

function KEYS.by(writer, key, name)
  if key.types then check_types(key) end
  local given = #key.fields == 1 and GIVEN[key.fields[1]]
  if given then
    if given[1] == "ns" then
      writer:put("local %s = %s(ns)", name, writer:outside(kept(key, "interned", interning)))
    else
      writer:put("local %s = %s", name, given[1])
    end
    return given[2]
  end
  local first, more, column = writer:source(key.fields, name, key.named and "named")
  if key.occurrence == "all" then
    writer:put("for _, %s in ipairs(%s(%s, %s)) do", name, writer:outside(all_values), first, more)
    return column, true
  elseif key.occurrence == "set" then
    writer:put("local %s = %s(%s, %s)", name, writer:outside(kept(key, "sets", function() return sets(key) end)), first, more)
    column = "set"
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
  local offset, interned = nil, kept(key, "interned", interning) -- of the capture's beginning in its interval
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
  writer:put("local %s = %s(pinfo, ns)", name, writer:outside(kept(key, "bucket", function() return bucket end)))
  return "time"
end

function KEYS.tree(writer, key, name)
  writer:put("local %s_p = %s", name, writer:outside(kept(key, "root", function() return { nodes = {}, below = {}, tree = {} } end)))
  for index, level in ipairs(key.levels) do
    local first = writer:source(level.fields, name .. "_" .. index)
    writer:put("if %s ~= nil then %s_p = %s_p.below[%s] or %s(%s_p, %s, %s)", first, name, name, first,
      writer:outside(place_of), name, writer:outside(level), first)
  end
  writer:put(("end "):rep(#key.levels))
  writer:put("for _, %s in ipairs(%s_p.nodes[1] and %s_p.nodes or %s) do", name, name, name, writer:outside({ NONE }))
  return "path", true
end

return { read = READ, write = KEYS, none = NONE }
