-- Writes the function that counts a packet for all requests of group.lua with the same filter. group_keys.lua and
-- group_measures.lua put the lines of their part into it.

local sharkstat = require "sharkstat"
local values = require "values"

local concat = table.concat

-- What moment() tells, without any field.
local given = {
  ["frame.len"] = { "length", "integer" },
  ["frame.number"] = { "number", "integer" },
  ["frame.time_relative"] = { "ns", "duration" },
  ["frame.time_epoch"] = { "ns", "time" },
  ["frame.time"] = { "ns", "time" },
}

-- A function's locals are limited to 200: a field has two, and whatever a request needs from outside has one.
local MOST_FIELDS = 80
local FULL = 60 -- locals of either kind, so that there is room for one more request

-- Requests with the same filter are one function, until it is full. Its lines, the values from outside that it needs, and the
-- fields that it reads: each once a packet, into a local for the first value and one for a list of the others.
local Writer = {}
Writer.__index = Writer
Writer.given = given

function Writer.new()
  return setmetatable({ reading = {}, lines = {}, values = {}, names = {}, fields = {}, count = 0 }, Writer)
end

function Writer.fail(text, ...) error("group: " .. text:format(...), 0) end

-- Whether the next request needs a function of its own.
function Writer:is_full() return 2 * self.count > FULL or #self.values > FULL end

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
-- "key" or "number" (see values.lua), or "named": a key whose values' names are told, too.
function Writer:field(name, how)
  local known = self.fields[how .. " " .. name]
  if known then return known[1], known[2], known[3] end
  self.count = self.count + 1
  if self.count > MOST_FIELDS then Writer.fail("more than %d fields in one request: ask for fewer", MOST_FIELDS) end
  local extractor = sharkstat.field(name)
  local kind = values.kind(extractor.type)
  local convert = kind[how]
  if how == "named" then convert = values.naming(name, extractor.type, kind.key) end
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
function Writer:source(names, name, how)
  local first, more, kind = self:field(names[1], how or "key")
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

-- The lines `text` for every value of a field in the packet, %s in it being the value.
function Writer:each(first, more, text)
  self:put("if %s ~= nil then", first)
  self:put((text:gsub("%%s", first)))
  self:put("if %s then for m = 1, #%s do", more, more)
  self:put((text:gsub("%%s", more .. "[m]")))
  self:put("end end end")
end

-- The function of a packet that all of it makes.
function Writer:written()
  local parameters = {}
  for index = 1, #self.values do parameters[index] = "v" .. index end
  local text = "local moment, plus, outside = ...\n"
    .. (#parameters > 0 and "local " .. concat(parameters, ", ") .. " = outside()\n" or "")
    .. "return function(pinfo)\nlocal number, length, ns = moment(pinfo)\n"
    .. concat(self.reading, "\n") .. "\n" .. concat(self.lines, "\n") .. "\nend"
  local chunk, problem = load(text, "=group", "t")
  if not chunk then Writer.fail("too many keys and measures in one request: ask for fewer (%s)", problem) end
  return chunk(sharkstat.moment, sharkstat.plus, function() return table.unpack(self.values) end)
end

return Writer
