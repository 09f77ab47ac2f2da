-- The library of sharkstat's taps: what a tap file may call.
--
-- A tap file registers one or more statistics:
--
--     package.path = __DIR__ .. "?.lua;" .. package.path
--     local sharkstat = require "sharkstat"
--
--     sharkstat.register {
--       name = "hosts,sent",                       -- what is asked for with -z
--       title = "Packets sent by each host",
--       columns = { { "address", "address" }, { "packets", "integer" } },
--       start = function(run)
--         local sent = {}
--         run:listen("ip", function(pinfo, tvb, info)
--           local host = run:address(info.ip_src)
--           sent[host] = (sent[host] or 0) + 1
--         end)
--         return function()                        -- called once, after the last packet
--           for host, packets in pairs(sent) do run:row { host, packets } end
--         end
--       end,
--     }
--
-- Loaded by tshark or Wireshark (-X lua_script:FILE, or from a plugin folder) every statistic becomes
-- a real name for -z and prints a table. Loaded by sharkstat the same code sends rows to the host.
-- It must run on Lua 5.2 (tshark 4.0) and 5.4 (4.4 and later): no //, no integer literals above
-- 2^53, no unpack, no string.format("%d") of a fraction.

local sharkstat = { registered = {}, order = {} }

local floor = math.floor
local concat, format = table.concat, string.format

-- Above this many seconds a double no longer holds every nanosecond, and the exact field is read.
local EXACT_SECONDS = 2 ^ 22
local EXACT_INTEGER = 2 ^ 53

-- The host (host.lua) replaces these for a hosted run; by itself a tap has no display filter.
sharkstat.hosted = false
sharkstat.display_filter = ""
sharkstat.resolving = false

local Run = {}
Run.__index = Run

---------------------------------------------------------------------------------------------------
-- Time

local relative_field
local exact_times = {}
local fields = {}

-- The extractor of a field. tshark makes extractors only while it loads scripts, and one that exists
-- makes it build a tree for every packet: so a statistic lists in `fields` the ones that it needs.
function sharkstat.field(name)
  if not fields[name] then
    local fine, made = pcall(Field.new, name)
    if not fine then
      error(made:find("must exist", 1, true) and "no such field: " .. name or made, 0)
    end
    fields[name] = made
  end
  return fields[name]
end

-- Reads times that a double cannot hold from a field. That costs every packet a part of its tree, so a
-- hosted run asks for it only when such a time came (sharkstat.too_far) or when it cannot start again.
function sharkstat.use_exact_times()
  sharkstat.exact = true
  relative_field = sharkstat.field("frame.time_relative")
  sharkstat.field("frame.time_epoch")
end

-- What is called for a time too far from the first packet to be exact without the field.
sharkstat.too_far = function() end

-- Nanoseconds since the first packet of the capture. pinfo.rel_ts is a double and cheap; where it
-- is too large to be exact, the field is read. Lua 5.2 has no integers beyond 2^53: there the exact
-- digits are kept beside the number, for sharkstat.integer to find.
function sharkstat.relative_ns(pinfo)
  local seconds = pinfo.rel_ts
  if seconds < EXACT_SECONDS and seconds > -EXACT_SECONDS then
    return floor(seconds * 1e9 + 0.5)
  end
  local value = relative_field and relative_field()
  if not value then
    sharkstat.too_far()
    return floor(seconds * 1e9 + 0.5)
  end
  local secs, nsecs = value.value.secs, value.value.nsecs
  local total = secs * 1000000000 + nsecs
  if math.type then return total end
  if total >= EXACT_INTEGER or total <= -EXACT_INTEGER then
    local sign = ""
    if secs < 0 or nsecs < 0 then sign, secs, nsecs = "-", -secs, -nsecs end
    exact_times[total] = sign .. string.format("%.0f%09.0f", secs, nsecs)
  end
  return total
end

-- A packet's number, length and relative_ns. The host's books and the lean feed both want them for every
-- packet, and each reading of pinfo costs, so they are read once.
local current_pinfo, current, current_length, current_ns
function sharkstat.moment(pinfo)
  if pinfo == current_pinfo then return current, current_length, current_ns end  -- a listener that is shared
  current_pinfo = pinfo
  local number = pinfo.number
  if number ~= current then
    current, current_length, current_ns = number, pinfo.len, sharkstat.relative_ns(pinfo)
  end
  return number, current_length, current_ns
end

---------------------------------------------------------------------------------------------------
-- Values as text

-- A whole number in decimal digits, exact on both Luas.
function sharkstat.integer(number)
  if (number < EXACT_INTEGER and number > -EXACT_INTEGER) or (math.type and math.type(number) == "integer") then
    return format("%d", number)
  end
  return exact_times[number] or format("%.0f", number)
end

-- Seconds and nanoseconds of a time of relative_ns.
local function seconds_of(time)
  local sign, digits = sharkstat.integer(time):match("^(-?)(%d+)$")
  digits = ("0"):rep(10 - #digits) .. digits
  local factor = sign == "-" and -1 or 1
  return factor * tonumber(digits:sub(1, -10)), factor * tonumber(digits:sub(-9))
end

-- Nanoseconds from one time to another, exact on both Luas also where the times are too large for a double.
function sharkstat.elapsed(from, to)
  if math.type or (from < EXACT_INTEGER and from > -EXACT_INTEGER and to < EXACT_INTEGER and to > -EXACT_INTEGER) then
    return to - from
  end
  local from_seconds, from_rest = seconds_of(from)
  local to_seconds, to_rest = seconds_of(to)
  return (to_seconds - from_seconds) * 1000000000 + to_rest - from_rest
end

local escapes = { ["\\"] = "\\\\", ["\t"] = "\\t", ["\n"] = "\\n", ["\r"] = "\\r" }

-- One value of a record: a backslash and the three characters that separate records are escaped.
function sharkstat.escape(value)
  if value == nil then return "\\N" end
  local kind = type(value)
  if kind == "string" then return (value:gsub("[\\\t\n\r]", escapes)) end
  if kind == "number" then
    if math.type and math.type(value) == "integer" then return tostring(value) end
    if exact_times[value] then return exact_times[value] end
    if value == floor(value) and value < EXACT_INTEGER and value > -EXACT_INTEGER then
      return string.format("%.0f", value)
    end
    return string.format("%.17g", value)
  end
  return (tostring(value):gsub("[\\\t\n\r]", escapes))
end

---------------------------------------------------------------------------------------------------
-- Addresses

local WORDS = { Broadcast = "ff:ff:ff:ff:ff:ff" }
local ADDRESS_FIELDS = { "eth.src", "eth.dst", "ip.src", "ip.dst", "ipv6.src", "ipv6.dst" }
local address_fields = {}
local names = {}

-- Tells the library that tshark resolves names (-N), so that digits must come from fields.
function sharkstat.use_names()
  sharkstat.resolving = true
  for index, name in ipairs(ADDRESS_FIELDS) do address_fields[index] = sharkstat.field(name) end
end

-- The address in digits. With name resolution on, tostring() gives the name: the digits are then
-- those of the packet's field that holds the same address, and the name is kept for the host.
function Run:address(address)
  local text = tostring(address)
  if not sharkstat.resolving then return WORDS[text] or text end
  for _, field in ipairs(address_fields) do
    for _, found in ipairs { field() } do
      if found.value == address then
        local digits = sharkstat.digits(found)
        if digits ~= text then names[digits] = text end
        return digits
      end
    end
  end
  return WORDS[text] or text
end

-- The digits of a field that holds an address, whatever names are resolved: `display` and tostring() of the
-- value hold names, tostring() of the field does not.
sharkstat.digits = tostring

function sharkstat.names() return names end

function sharkstat.keep_name(digits, name)
  if name ~= digits then names[digits] = name end
end

local TAP_ADDRESSES = { eth = { "src", "dst" }, ip = { "ip_src", "ip_dst" } }

-- Whether tshark tells Lua the addresses that a tap announces.
function sharkstat.tells_ends(tap) return TAP_ADDRESSES[tap] ~= nil end

-- For the taps of addresses alone: a function of (info, pinfo) that gives the source and destination, in
-- digits, of the header that is announced. tshark gives Lua no tap info for ipv6, ipx and usb: there the fields
-- are read, in order. They also hold the headers that an ICMP error quotes, but behind those that are announced.
function Run:ends_of(tap)
  local keys = TAP_ADDRESSES[tap]
  if keys then
    local source_key, destination_key = keys[1], keys[2]
    if sharkstat.resolving then
      return function(info) return self:address(info[source_key]), self:address(info[destination_key]) end
    end
    if tap == "ip" then  -- no word stands for an IPv4 address
      return function(info) return tostring(info.ip_src), tostring(info.ip_dst) end
    end
    return function(info)
      local source, destination = tostring(info[source_key]), tostring(info[destination_key])
      return WORDS[source] or source, WORDS[destination] or destination
    end
  end
  local sources, destinations = sharkstat.field(tap .. ".src"), sharkstat.field(tap .. ".dst")
  if sharkstat.resolving then
    address_fields[#address_fields + 1] = sources
    address_fields[#address_fields + 1] = destinations
  end
  local packet, nth = -1, 0
  return function(_, pinfo)
    local number = pinfo.number
    if number == packet then nth = nth + 1 else packet, nth = number, 1 end
    local source, destination
    if nth == 1 then
      source, destination = sources(), destinations()
    else
      source, destination = select(nth, sources()), select(nth, destinations())
    end
    return self:address(source.value), self:address(destination.value)
  end
end

---------------------------------------------------------------------------------------------------
-- Runs: one statistic, asked for once

-- Joins filters that must all hold. Each is tried by itself first: "a) || (b" would join well.
function sharkstat.all_of(...)
  local parts = {}
  for index = 1, select("#", ...) do
    local filter = select(index, ...)
    if filter and filter:find("%S") then parts[#parts + 1] = filter end
  end
  if #parts < 2 then return parts[1] end
  for index, filter in ipairs(parts) do
    Listener.new("frame", filter):remove()
    parts[index] = "(" .. filter .. ")"
  end
  return concat(parts, " && ")
end

-- tshark calls Lua once a packet for each listener, which costs more than what most listeners do: so
-- all that want the same tap with the same filter share one.
local shared = {}

local function share(tap, filter, packet)
  local key = tap .. "\t" .. (filter or "")
  local known = shared[key]
  if known then
    local first, rest = known.packet, packet
    known.packet = function(pinfo, tvb, info)
      first(pinfo, tvb, info)
      rest(pinfo, tvb, info)
    end
    known.listener.packet = known.packet
    return known.listener
  end
  local listener = Listener.new(tap, filter)
  listener.packet = packet
  shared[key] = { listener = listener, packet = packet }
  return listener
end

-- Calls packet(pinfo, tvb, info) for every header or message that tshark's tap `tap` announces
-- ("frame", "eth", "ip", "ipv6", "tcp", "udp", "http", ...) in packets that `filter` takes.
-- An error in it ends this statistic, and the others go on.
function Run:listen(tap, packet, filter)
  local function described(message)
    return { message, debug and debug.traceback and debug.traceback() or "" }
  end
  local function guarded(pinfo, tvb, info)
    if self.failure then return end
    local fine, problem = xpcall(packet, described, pinfo, tvb, info)
    if not fine then
      self.failure = { message = tostring(problem[1]), packet = pinfo.number, traceback = problem[2] }
    end
  end
  local combined = sharkstat.all_of(sharkstat.display_filter, self.filter, filter)
  -- By itself every statistic draws, through a listener of its own.
  local listener
  if sharkstat.hosted then
    listener = share(tap, combined, guarded)
  else
    listener = Listener.new(tap, combined)
    listener.packet = guarded
  end
  self.listeners[#self.listeners + 1] = listener
  return listener
end
sharkstat.share = share

-- Emits one row: values in the order of the columns; nil where there is none.
function Run:row(values)
  self.rows = self.rows + 1
  self.emit(self, values)
end

local function start(statistic, arguments, emit)
  local run = setmetatable({
    statistic = statistic,
    arguments = arguments or "",
    filter = nil,
    listeners = {},
    rows = 0,
    emit = emit,
  }, Run)
  run.columns = statistic.columns
  run.finish = statistic.start(run)
  return run
end
sharkstat.start = start

---------------------------------------------------------------------------------------------------
-- By itself: a table on standard output

-- No control character of a packet may reach the terminal.
local function printable(text)
  return (text:gsub("%c", function(c) return string.format("\\x%02x", c:byte()) end))
end

local function cell(value, kind)
  if value == nil then return "-" end
  if type(value) == "table" then return concat(value, " / ") end
  if kind == "time" or kind == "duration" then return string.format("%.9f", value / 1e9) end
  if type(value) == "number" then return sharkstat.escape(value) end
  return tostring(value)
end

local LEFT = { text = true, address = true, path = true }

local function print_table(run, rows)
  local widths, head, lines = {}, {}, {}
  for index, column in ipairs(run.columns) do
    head[index] = column[1]
    widths[index] = #column[1]
  end
  for _, row in ipairs(rows) do
    local line = {}
    for index, column in ipairs(run.columns) do
      line[index] = printable(cell(row[index], column[2]))
      widths[index] = math.max(widths[index], #line[index])
    end
    lines[#lines + 1] = line
  end
  local function show(line)
    local cells = {}
    for index, column in ipairs(run.columns) do
      local pad = (" "):rep(widths[index] - #line[index])
      cells[index] = LEFT[column[2]] and line[index] .. pad or pad .. line[index]
    end
    print((concat(cells, "  "):gsub("%s+$", "")))
  end
  print("")
  print(run.statistic.title .. (run.arguments ~= "" and "  [" .. printable(run.arguments) .. "]" or ""))
  if #rows == 0 then
    print("no matching packets")
    return
  end
  show(head)
  local rule = {}
  for index, width in ipairs(widths) do rule[index] = ("-"):rep(width) end
  show(rule)
  for _, line in ipairs(lines) do show(line) end
end

local function open_by_itself(statistic, prefix, argument)
  local rows = {}
  local text = tostring(argument or "")
  if text:sub(1, #prefix) == prefix then text = text:sub(#prefix + 1) end
  text = text:gsub("^,", "")
  local run = start(statistic, text, function(_, values) rows[#rows + 1] = values end)
  -- Every listener is drawn at the end; the first one speaks for all.
  run.listeners[1].draw = function()
    if run.failure then
      error(("%s: packet %s: %s"):format(statistic.name, tostring(run.failure.packet), run.failure.message))
    end
    run.finish()
    print_table(run, rows)
    rows = {}
  end
end

---------------------------------------------------------------------------------------------------
-- Registration

-- statistic: name, title, columns ({name, type[, unit]} each), start(run), and `fields`, the names of
-- the fields that it reads, if any. `z_name` is the name for -z where it differs: a tap that counts what tshark's own statistic of that name counts is
-- "sharkstat," and the name, since tshark takes -z names by their beginning.
function sharkstat.register(statistic)
  for _, key in ipairs { "name", "title", "columns", "start" } do
    if statistic[key] == nil then
      error(("statistic %s: missing required field: %s"):format(tostring(statistic.name), key), 2)
    end
  end
  sharkstat.registered[statistic.name] = statistic
  sharkstat.order[#sharkstat.order + 1] = statistic.name
  if not sharkstat.hosted then
    for _, name in ipairs(statistic.fields or {}) do sharkstat.field(name) end
    local z_name = statistic.z_name or statistic.name
    -- tshark swallows the reason of an error in this callback.
    register_stat_cmd_arg(z_name, function(argument)
      local fine, problem = pcall(open_by_itself, statistic, z_name, argument)
      if not fine then io.stderr:write("tshark: ", z_name, ": ", tostring(problem), "\n") end
    end)
  end
end

-- The header of a tap's file: the comment that it begins with, one "-- KEY: VALUE" a line; an indented line goes on
-- with the value before it (docs/taps.md, core/sharkstat/tapfile.py).
local function read_header(file)
  local header = { columns = {}, fields = {}, parameters = {}, derived = {} }
  local last
  for line in io.lines(file) do
    if line:sub(1, 2) ~= "--" then break end
    local key, value = line:match("^%-%-%s?(%l+):%s*(.-)%s*$")
    if key == "column" then
      local name, kind, rule, rest = value:match("^(%S+)%s+(%S+)%s+(%S+)%s*([^;]*)")
      local above, below = rule:match("^([%w_]+)/([%w_]+)$")
      local column = { name, kind, rule = rule, hidden = rest:find("%f[%w]hidden%f[%W]") ~= nil,
                       percent = rest:find("%f[%w]percent%f[%W]") ~= nil, above = above, below = below }
      if above then column.after = #header.columns end
      local list = above and header.derived or header.columns
      list[#list + 1] = column
    elseif key == "field" then
      header.fields[#header.fields + 1] = value
    elseif key == "parameter" then
      local name, kind, default = value:match("^(%S+)%s+(%S+)%s*(%S*)")
      header.parameters[#header.parameters + 1] = {
        name = name, kind = kind, default = default ~= "" and default ~= "-" and default or nil,
      }
    elseif key then
      header[key] = value
      last = key
    elseif last then
      local more = line:match("^%-%-%s%s+(%S.-)%s*$")
      if more then header[last] = header[last] .. " " .. more end
    end
    if key == "column" or key == "field" or key == "parameter" then last = nil end
  end
  return header
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
    value = text:find("^[+-]?%d+$") and tonumber(text)
  elseif kind == "number" then
    value = tonumber(text)
  elseif kind == "boolean" then
    value = BOOLEANS[text:lower()]
  elseif kind == "duration" then
    local number, unit = text:gsub("µ", "u"):match("^(%d+%.?%d*)%s*(%a*)$")
    value = number and NANOSECONDS[unit] and floor(tonumber(number) * NANOSECONDS[unit] + 0.5)
  end
  if value == nil or (value == false and kind ~= "boolean") then
    error(("%s=%s: not a value of type %s"):format(parameter.name, text, kind), 0)
  end
  return value
end

-- The parameters that arguments begin with, NAME=VALUE each, and the rest of them.
local function read_arguments(name, arguments, parameters)
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
sharkstat.read_arguments = read_arguments

-- Registers the statistic that the header of the file describes: tap(__FILE__, start). Before `start` is called,
-- run.parameters has the values of the parameters, run.arguments what follows them, and run.filter that, too, where
-- the arguments are a filter.
function sharkstat.tap(file, start)
  local statistic = read_header(file)
  statistic.start = function(run)
    run.parameters, run.arguments = read_arguments(statistic.name, run.arguments, statistic.parameters)
    if (statistic.arguments or "filter") == "filter" then run.filter = run.arguments end
    return start(run)
  end
  sharkstat.register(statistic)
end

---------------------------------------------------------------------------------------------------
-- Entries by key, with a bound

-- A table that gets an entry, made by make(key, ...), for each key that it has not yet: at most `most` of them.
-- All keys after those share one entry, made by make(nil, ...), so that memory is bounded and nothing goes
-- uncounted. Gives the table (look in it first: that is faster), the function entry_of(key, ...), the entries in the
-- order of their making, and the function other(), which gives the shared one, if there is one.
function sharkstat.capped(most, make)
  local known, order, count, shared_entry = {}, {}, 0, nil
  local function entry_of(key, ...)
    local entry = known[key]
    if entry then return entry end
    if count < most then
      entry = make(key, ...)
      count = count + 1
      known[key], order[count] = entry, entry
      return entry
    end
    shared_entry = shared_entry or make(nil, ...)
    return shared_entry
  end
  return known, entry_of, order, function() return shared_entry end
end

return sharkstat
