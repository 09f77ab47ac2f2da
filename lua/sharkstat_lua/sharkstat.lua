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
-- a real name for -z and prints a table, and in Wireshark's menus it opens a window with it (alone.lua).
-- Loaded by sharkstat the same code sends rows to the host.
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

-- tshark's own extractor of a field. It can be made only while tshark loads scripts, and once there is one, tshark builds
-- a tree for every packet: so only what is asked for may make one.
function sharkstat.extractor(name)
  if not fields[name] then
    local fine, made = pcall(Field.new, name)
    if not fine then
      error(made:find("must exist", 1, true) and "no such field: " .. name or made, 0)
    end
    fields[name] = made
  end
  return fields[name]
end

-- What reads a field: called for a packet, it gives its values (FieldInfo), none to many. A hosted run knows while
-- scripts are loaded what is asked for; a tap that was only loaded must cost nothing, so by itself it reads otherwise.
function sharkstat.field(name)
  if sharkstat.hosted or fields[name] then return sharkstat.extractor(name) end
  return require("sharkstat_alone").reader(name)
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
    if secs < 0 or nsecs < 0 then sign, secs, nsecs = "-", 0 - secs, 0 - nsecs end
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

-- The texts of the whole numbers below 1000, which most of what is counted are: to write a number takes longer.
local small = {}

-- One value of a record: a backslash and the three characters that separate records are escaped.
function sharkstat.escape(value)
  if value == nil then return "\\N" end
  local text = small[value]
  if text then return text end
  local kind = type(value)
  if kind == "number" then
    local whole = value == floor(value) and value < EXACT_INTEGER and value > -EXACT_INTEGER
    if not (whole or exact_times[value] or (math.type and math.type(value) == "integer")) then
      return format("%.17g", value)
    end
    text = sharkstat.integer(value)
    if value >= 0 and value < 1000 then small[value] = text end
    return text
  end
  if kind ~= "string" then value = tostring(value) end
  if value:find("^[^%c\\]*$") then return value end -- almost all, and to look takes half the time of gsub
  return (value:gsub("[\\\t\n\r]", escapes))
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

local TAP_ADDRESSES = { eth = { "src", "dst" }, ip = { "ip_src", "ip_dst" }, wlan = { "src", "dst" } }
-- Those whose addresses are the packet's own of the link, which nothing above it changes.
local OF_LINK = { bluetooth = true, fddi = true, sll = true, tr = true }

-- Whether tshark tells Lua the addresses that a tap announces.
function sharkstat.tells_ends(tap) return TAP_ADDRESSES[tap] ~= nil or OF_LINK[tap] ~= nil end

-- For the taps of addresses alone: a function of (info, pinfo) that gives the source and destination, in
-- digits, of the header that is announced. tshark gives Lua no tap info for ipv6, ipx and usb: there the fields
-- are read, in order. They also hold the headers that an ICMP error quotes, but behind those that are announced.
function Run:ends_of(tap)
  if OF_LINK[tap] then
    return function(_, pinfo) return self:address(pinfo.dl_src), self:address(pinfo.dl_dst) end
  end
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

-- For sctp and dccp, of which tshark tells Lua nothing: the fields with their ports and, where there is one, number.
local PORTS = { sctp = { "sctp.srcport", "sctp.dstport" }, dccp = { "dccp.srcport", "dccp.dstport", "dccp.stream" } }

-- A function of pinfo that gives source, port, destination, port and number (0 where there is none) of the header that is
-- announced.
function Run:ports_of(tap)
  local extractors = {}
  for index, name in ipairs(PORTS[tap]) do extractors[index] = sharkstat.field(name) end
  local packet, nth = -1, 0
  local function value(extractor)
    local found = select(nth, extractor())
    return found and found.value
  end
  return function(pinfo)
    local number = pinfo.number
    if number == packet then nth = nth + 1 else packet, nth = number, 1 end
    return self:address(pinfo.src), value(extractors[1]), self:address(pinfo.dst), value(extractors[2]),
      extractors[3] and value(extractors[3]) or 0
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
  if not sharkstat.hosted then return require("sharkstat_alone").listen(self, tap, guarded, filter) end
  local listener = share(tap, sharkstat.all_of(sharkstat.display_filter, self.filter, filter), guarded)
  self.listeners[#self.listeners + 1] = listener
  return listener
end
sharkstat.share = share

-- Emits one row: values in the order of the columns; nil where there is none.
function Run:row(values)
  self.rows = self.rows + 1
  self.emit(self, values)
end

function sharkstat.new_run(statistic, arguments, emit)
  return setmetatable({
    statistic = statistic,
    arguments = arguments or "",
    columns = statistic.columns,
    filter = nil,
    listeners = {},
    rows = 0,
    emit = emit,
  }, Run)
end

function sharkstat.start(statistic, arguments, emit)
  local run = sharkstat.new_run(statistic, arguments, emit)
  run.finish = statistic.start(run)
  return run
end

---------------------------------------------------------------------------------------------------
-- Registration

-- statistic: name, title, columns ({ name, type, unit = UNIT, rule = "key" } each, the last two where they help who
-- reads), start(run). `z_name` is the name for -z where it differs: a tap that counts what tshark's own statistic of
-- that name counts is "sharkstat," and the name, since tshark takes -z names by their beginning.
function sharkstat.register(statistic)
  for _, key in ipairs { "name", "title", "columns", "start" } do
    if not (key == "columns" and statistic.file) and statistic[key] == nil then  -- a header has columns
      error(("statistic %s: missing required field: %s"):format(tostring(statistic.name), key), 2)
    end
  end
  -- The fields that its file has read so far are primed when it is asked for.
  local early, file = sharkstat.early, statistic.file or debug.getinfo(statistic.start, "S").source
  if early and (early.file == nil or early.file == file) then early.file, statistic.early = file, early.names end
  local again = sharkstat.registered[statistic.name]
  sharkstat.registered[statistic.name] = statistic
  if again then return end  -- installed, and given by name, too: the last one counts
  sharkstat.order[#sharkstat.order + 1] = statistic.name
  if sharkstat.hosted then return end
  local function open(how, argument)
    require("sharkstat_alone")[how](sharkstat.registered[statistic.name], argument)
  end
  register_stat_cmd_arg(statistic.z_name or statistic.name, function(argument) open("asked", argument) end)
  if gui_enabled() then
    local entry = ("%s (%s)"):format(statistic.title, statistic.z_name or statistic.name)
    entry = entry:gsub("/", "\226\136\149")  -- or it would begin a submenu
    -- The Statistics menu has no submenus for Lua, and is as long as the screen.
    register_menu("sharkstat/" .. entry, function() open("chosen") end, MENU_TOOLS_UNSORTED)
  end
end

-- The header of a tap's file: the comment that it begins with, one "-- KEY: VALUE" a line; an indented line goes on
-- with the value before it (docs/taps.md, core/sharkstat/tapfile.py). With `enough`, reading ends with that key.
local function header_texts(file, enough)
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
  if not name then error("bad column: " .. text, 0) end
  local words, hidden = {}, false
  for word in rest:gmatch("%S+") do
    if word == "hidden" then
      hidden = true
    elseif word ~= "local" and word ~= "dynamic" then  -- what these say is for comparing captures
      words[#words + 1] = word
    end
  end
  local above, below = rule:match("^([%w_]+)/([%w_]+)$")
  return { name, kind, rule = rule, unit = concat(words, " "), hidden = hidden, above = above, below = below }
end

local function read_parameter(text)
  local name, kind, default, description = text:match("^(%S+)%s+(%S+)%s*(%S*)%s*(.*)$")
  if not name then error("bad parameter: " .. text, 0) end
  if default == "" or default == "-" then default = nil end
  return { name = name, kind = kind, description = description, default = default }
end

-- What a header says beside name and title: `columns` are those of a row, `shown` all in their order, derived ones too.
local function read_header(file)
  local texts = header_texts(file)
  local function one(key) return texts[key] and texts[key][1] end
  local header = { arguments = one("arguments") or "filter", sort = one("sort"), columns = {}, shown = {}, parameters = {} }
  for _, text in ipairs(texts.column or {}) do
    local column = read_column(text)
    header.shown[#header.shown + 1] = column
    if not column.above then header.columns[#header.columns + 1] = column end
  end
  for _, text in ipairs(texts.parameter or {}) do header.parameters[#header.parameters + 1] = read_parameter(text) end
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

-- A statistic of a file with a header. The rest of it is read when it is asked for: most that are loaded never are.
local FROM_HEADER = { arguments = true, sort = true, columns = true, shown = true, parameters = true }
local function described(file)
  local texts = header_texts(file, "title")
  return setmetatable({ name = texts.name and texts.name[1], title = texts.title and texts.title[1] }, {
    __index = function(statistic, key)
      if not FROM_HEADER[key] then return nil end
      setmetatable(statistic, nil)
      for name, value in pairs(read_header(file)) do statistic[name] = value end
      return statistic[key]
    end,
  })
end

-- Registers the statistic that the header of the file describes: tap(__FILE__, start). Before `start` is called,
-- run.parameters has the values of the parameters, run.arguments what follows them, and run.filter that, too, where
-- the arguments are a filter.
function sharkstat.tap(file, start)
  local source = debug.getinfo(start, "S").source
  local statistic = described(file or source:sub(2))  -- in a plugin folder 4.4 has no __FILE__
  statistic.file = source
  statistic.start = function(run)
    run.parameters, run.arguments = read_arguments(statistic.name, run.arguments, statistic.parameters)
    if (statistic.arguments or "filter") == "filter" then run.filter = run.arguments end
    return start(run)
  end
  sharkstat.register(statistic)
end

return sharkstat
