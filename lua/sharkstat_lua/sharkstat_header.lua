-- What the header of a tap's file says, and the values of its parameters in a request. A part of the library
-- (sharkstat.lua).

local header = {}

local concat, floor = table.concat, math.floor

-- The header of a tap's file: the comment that it begins with, one "-- KEY: VALUE" a line; an indented line goes on
-- with the value before it (docs/taps.md, core/sharkstat/tapfile.py). With `enough`, reading ends with that key.
function header.texts(file, enough)
  local texts, last = {}, nil
  for line in io.lines(file) do
    if line:sub(1, 2) ~= "--" or (enough and texts[enough]) then break end
    local key, value = line:match("^%-%-%s?(%l+):%s*(.-)%s*$")
    if key then
      last = texts[key] or {}
      texts[key] = last
      last[#last + 1] = value
    elseif last then
      local more = line:match("^%-%-%s%s+(%S.-)%s*$")
      if more then last[#last] = last[#last] .. " " .. more end
    end
  end
  return texts
end

local function read_column(text)
  local name, kind, rule, rest = text:match("^[^;]*"):match("^(%S+)%s+(%S+)%s+(%S+)%s*(.-)%s*$")
  if not name then error("invalid column: " .. text, 0) end
  local title = rest:match('title="([^"]*)"') or rest:match("title=(%S+)")
  rest = rest:gsub('title="[^"]*"', ""):gsub("title=%S+", "")
  local words, hidden, with = {}, false, nil
  for word in rest:gmatch("%S+") do
    if word == "hidden" then
      hidden = true
    elseif word:find("^with=") then
      with = word:sub(6)
    elseif word ~= "local" and word ~= "dynamic" and not word:find("^share") then  -- what these say is for sharkstat
      words[#words + 1] = word
    end
  end
  local above, below = rule:match("^([%w_]+)/([%w_]+)$")
  local size_of = rule:match("^size:([%w_]+)$")
  local percent, sketch, least, most = rule:match("^p(%d+%.?%d*):([%w_]+)/([%w_]+)/([%w_]+)$")
  return {
    name, kind, rule = rule, unit = concat(words, " "), hidden = hidden, with = with, above = above, below = below,
    size_of = size_of, percent = percent, sketch = sketch, least = least, most = most,
    derived = above ~= nil or size_of ~= nil or percent ~= nil,
    title = title and title:gsub("%-|(%l)", "%1"):gsub("|", " "),  -- a heading is broken anew where it must be
  }
end

local function read_parameter(text)
  local name, kind, default, description = text:match("^(%S+)%s+(%S+)%s*(%S*)%s*(.*)$")
  if not name then error("invalid parameter: " .. text, 0) end
  if default == "" or default == "-" then default = nil end
  return { name = name, kind = kind, description = description, default = default }
end

-- What a header says beside name and title: `columns` are those of a row, `shown` all in their order, derived ones too.
function header.read(file)
  local texts = header.texts(file)
  local function one(key) return texts[key] and texts[key][1] end
  local said = { arguments = one("arguments") or "filter", sort = one("sort"), columns = {}, shown = {}, parameters = {} }
  for _, text in ipairs(texts.column or {}) do
    local column = read_column(text)
    said.shown[#said.shown + 1] = column
    if not column.derived then said.columns[#said.columns + 1] = column end
  end
  for _, text in ipairs(texts.parameter or {}) do said.parameters[#said.parameters + 1] = read_parameter(text) end
  return said
end

local NANOSECONDS = {
  ns = 1, us = 1e3, ms = 1e6, s = 1e9, [""] = 1e9, m = 60e9, min = 60e9, h = 3600e9, d = 86400e9,
}
local BOOLEANS = { yes = true, ["true"] = true, ["1"] = true, no = false, ["false"] = false, ["0"] = false }

-- A parameter's value: a string, a number, a boolean, and nanoseconds for a duration.
local function parameter_value(parameter, text)
  local kind, value = parameter.kind, text
  if kind:find("|", 1, true) then
    if not ("|" .. kind .. "|"):find("|" .. text .. "|", 1, true) then value = nil end
  elseif kind == "integer" then
    value = text:find("^[+-]?%d+$") and tonumber(text:match("^%+?(.*)"))
  elseif kind == "number" then
    value = text:find("^[+-]?%.?%d[%d.]*[eE]?[+-]?%d*$") and tonumber((text:gsub("^%+", "")))
  elseif kind == "boolean" then
    value = BOOLEANS[text:lower()]
  elseif kind == "duration" then
    local number, unit = text:gsub("µ", "u"):match("^(%d[%d.]*)%s*(%a*)$")
    number = number and number:sub(-1) ~= "." and tonumber(number)
    value = number and NANOSECONDS[unit] and floor(number * NANOSECONDS[unit] + 0.5)
  end
  if value == nil or (value == false and kind ~= "boolean") then
    error(("%s=%s: not a value of type %s"):format(parameter.name, text, kind), 0)
  end
  return value
end

-- The parameters that arguments begin with, NAME=VALUE each, and the rest of them.
function header.arguments(name, arguments, parameters)
  local values, known, given = {}, {}, {}
  for _, parameter in ipairs(parameters) do known[parameter.name] = parameter end
  local rest = arguments
  while #parameters > 0 do
    local key, text, comma, after = rest:match("^%s*([%a_][%w_]*)%s*=%s*([^=,~%s][^,]*)(,?)(.*)$")
    if not key then break end
    if not known[key] then error(("%s has no parameter %s"):format(name, key), 0) end
    if given[key] then error(("%s: %s is given twice"):format(name, key), 0) end
    given[key] = true
    values[key] = parameter_value(known[key], text:match("^(.-)%s*$"))
    rest = after
  end
  for _, parameter in ipairs(parameters) do
    if not given[parameter.name] and parameter.default then
      values[parameter.name] = parameter_value(parameter, parameter.default)
    end
  end
  return values, rest:match("^%s*(.-)%s*$")
end

-- Those of a header's columns that there are with these values of parameters: some exist only with one of theirs.
function header.columns(columns, values)
  local found = {}
  for _, column in ipairs(columns) do
    local there = not column.with
    for name in (column.with or ""):gmatch("[%w_]+") do there = there or values[name] ~= nil end
    if there then found[#found + 1] = column end
  end
  return #found == #columns and columns or found
end

return header
