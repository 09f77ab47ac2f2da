-- The library of sharkstat's taps: what a tap file may call.
--
-- A tap file registers one or more statistics:
--
--     package.path = (__DIR__ or debug.getinfo(1, "S").source:match("@(.*[/\\])")) .. "?.lua;" .. package.path
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
-- a real name for -z and prints a table, and in Wireshark's menus it opens a window with it (sharkstat_alone.lua).
-- Loaded by sharkstat the same code sends rows to the host.
-- It must run on Lua 5.2 (tshark 4.0) and 5.4 (4.4 and later): no //, no integer literals above
-- 2^53, no unpack, no string.format("%d") of a fraction.

local exact = require "sharkstat_exact"
local header = require "sharkstat_header"

local sharkstat = { registered = {}, order = {} }

local floor = math.floor
local concat = table.concat

-- Above this many seconds a double no longer holds every nanosecond, and the exact field is read.
local EXACT_SECONDS = 2 ^ 22

-- The host (host.lua) replaces these for a hosted run; by itself a tap has no display filter.
sharkstat.hosted = false
sharkstat.display_filter = ""
sharkstat.resolving = false

local Run = {}
Run.__index = Run

-- Whole numbers and values as text (sharkstat_exact.lua), and the parameters of a request (sharkstat_header.lua).
sharkstat.integer, sharkstat.escape, sharkstat.OTHER = exact.integer, exact.escape, exact.OTHER
sharkstat.plus, sharkstat.elapsed, sharkstat.nanoseconds = exact.plus, exact.elapsed, exact.nanoseconds
sharkstat.read_arguments = header.arguments

---------------------------------------------------------------------------------------------------
-- Fields

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

-- The extractor of a field if something has made it, which costs nothing more.
function sharkstat.extracted(name) return fields[name] end

-- What reads a field: called for a packet, it gives its values (FieldInfo), none to many. A hosted run knows while
-- scripts are loaded what is asked for; a tap that was only loaded must cost nothing, so by itself it reads otherwise.
function sharkstat.field(name)
  if sharkstat.hosted or fields[name] then return sharkstat.extractor(name) end
  return require("sharkstat_alone").reader(name)
end

---------------------------------------------------------------------------------------------------
-- Time

local relative_field, epoch_field
local zero       -- of times: the capture's first packet; where that has no time, the first packet that has one
local fast = EXACT_SECONDS -- times up to here are read from pinfo
local timed = true -- false while there were only packets without a time

-- Reads times that a double cannot hold from fields, and knows which packets have none. That costs every packet a part of
-- its tree, so a hosted run asks for it only when such a time came (sharkstat.too_far) or when it cannot start again.
-- `first` is the time (nanoseconds since 1970) of the first packet that has one, where the capture's first has not.
function sharkstat.use_exact_times(first)
  sharkstat.exact = true
  relative_field = sharkstat.field("frame.time_relative")
  epoch_field = sharkstat.field("frame.time_epoch")
  sharkstat.first = first
  if first then zero, fast = first, 0 end
end

-- What is called for a packet whose time is too far from the first packet's to be exact without the field, or which may
-- have none.
sharkstat.too_far = function() end

-- In a shard of a capture (host.lua): tells how many nanoseconds later its first packet is than the capture's.
sharkstat.later = nil
local shift = 0

-- How many packets had no time.
sharkstat.timeless = 0

local current_pinfo, current, current_length, current_ns

-- A packet at or before the capture's first in time, or far from it. One without a time is taken for as late as the packet
-- before it.
local function unusual_ns(pinfo, seconds)
  if sharkstat.later then
    local later = sharkstat.later
    sharkstat.later = nil
    shift = later(pinfo)
  end
  if not relative_field then
    local near = seconds < EXACT_SECONDS and seconds > -EXACT_SECONDS
    if (not near or pinfo.abs_ts == 0) then
      sharkstat.too_far(pinfo)
      if current_ns and pinfo.abs_ts == 0 then return current_ns end
    end
    if near then return floor(seconds * 1e9 + 0.5) + shift end
    return exact.of_seconds(floor(seconds), floor(seconds % 1 * 1e9 + 0.5))
  end
  local found = relative_field()
  if not found then
    sharkstat.timeless = sharkstat.timeless + 1
    if not current_ns then timed = false end
    return current_ns or 0
  end
  if not timed then
    timed = true
    zero, fast = zero or exact.nanoseconds(epoch_field().value), 0
  end
  if zero then
    if current_ns then return exact.elapsed(zero, exact.nanoseconds(epoch_field().value)) end
    zero, fast = nil, EXACT_SECONDS  -- the first packet has a time
  end
  return exact.nanoseconds(found.value)
end

-- A packet's number, its length, and its nanoseconds since the first packet of the capture. pinfo.rel_ts is a double, and
-- cheap. Nearly all listeners want them, and each reading of pinfo costs, so they are read once a packet.
function sharkstat.moment(pinfo)
  if pinfo == current_pinfo then return current, current_length, current_ns end  -- a listener that is shared
  current_pinfo = pinfo
  local number = pinfo.number
  if number ~= current then
    local seconds = pinfo.rel_ts
    if seconds > 0 and seconds < fast then
      current_ns = floor(seconds * 1e9 + 0.5) + shift
    else
      current_ns = unusual_ns(pinfo, seconds)
    end
    current, current_length = number, pinfo.len
  end
  return number, current_length, current_ns
end
local moment = sharkstat.moment

-- Nanoseconds since the first packet of the capture: a number, or an object that adds and compares like one
-- (sharkstat_exact.lua). sharkstat.elapsed(from, to) and sharkstat.plus(a, b) count with them, and lose no digit.
function sharkstat.relative_ns(pinfo)
  local _, _, ns = moment(pinfo)
  return ns
end

require "sharkstat_addresses"(sharkstat, Run)
local cut = require "sharkstat_cut"
local sharing = require "sharkstat_sharing"

-- tshark's version, as 4.4.
function sharkstat.version()
  return tonumber((get_version and get_version() or ""):match("^%d+%.%d+")) or 0
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

-- tshark calls Lua once a packet for each listener, which costs more than what most listeners do: so all that want the same
-- tap with the same filter share one (sharkstat_sharing.lua).
local function share(tap, filter, packet) return sharing.listen(tap, filter, { packet = packet }).listener end

-- Calls packet(pinfo, tvb, info, number, length, ns) for every header or message that tshark's tap `tap` announces
-- ("frame", "eth", "ip", "ipv6", "tcp", "udp", "http", ...) in packets that `filter` takes.
-- The last three are those of sharkstat.moment. An error in it ends this statistic, and the others go on.
-- A filter costs every packet something, and where there are many taps it costs more than they do. So a listener to "frame"
-- may say what its filter says once more, as wants(path), where `path` is what the packet's protocols tell (layers.lua):
-- that is asked once for each combination of protocols, and takes the filter's place where something reads them anyway.
function Run:listen(tap, packet, filter, wants)
  if not sharkstat.hosted then
    local alone = require "sharkstat_alone"
    return alone.listen(self, tap, sharing.guarded(self, packet), filter)
  end
  if cut.concerns(tap) then
    sharkstat.cut_matters = true
    if sharkstat.cut then
      packet = cut.listen(sharkstat, self, tap, packet, function(also, for_cut)
        sharing.listen("frame", sharkstat.all_of(sharkstat.display_filter, self.filter, filter, also),
          { packet = for_cut, run = self })
      end)
    end
  end
  if not fields["frame.protocols"] then wants = nil end
  local taken = sharkstat.all_of(sharkstat.display_filter, self.filter, not wants and filter or nil)
  local shared = sharing.listen(tap, taken, { packet = packet, run = self, wants = wants })
  self.listeners[#self.listeners + 1] = shared.listener
  return shared.listener
end
sharkstat.share = share

-- For rows that are bounded (rows.lua): where there were more, `rows.other` stands for them. The host then says so, since
-- such a result cannot be merged with another. A tap may say it itself: run.capped = true.
function Run:bounded(rows) self.bounds[#self.bounds + 1] = rows end

function Run:is_capped()
  for _, rows in ipairs(self.bounds) do
    if rows.other then return true end
  end
  return self.capped == true
end

-- What there is to say of the result: say() is called once it is there, and gives a sentence, or nil; and true where
-- something is counted wrong or not at all.
function Run:remark(say) self.remarks[#self.remarks + 1] = say end

local MOST_WARNINGS = 10

-- Adds a warning to the result, a sentence; the same one only once. After the first ten, only their number is told.
function Run:warn(text)
  local warned = self.warned
  if not warned then
    warned = { count = 0, more = 0 }
    self.warned = warned
  end
  if warned[text] then return end
  if warned.count < MOST_WARNINGS then
    warned[text], warned.count = true, warned.count + 1
    self:remark(function() return text end)
  else
    if warned.more == 0 then self:remark(function() return ("and %d more warnings"):format(warned.more) end) end
    warned.more = warned.more + 1
  end
end

-- Emits one row: values in the order of the columns; nil where there is none.
function Run:row(values)
  self.rows = self.rows + 1
  self.emit(self, values)
end

-- Emits what `count` more rows add up to: values as in a row, without keys. A result has one such row at most.
function Run:others(values, count)
  self.capped = true
  self.emit(self, values, count)
end

function sharkstat.new_run(statistic, arguments, emit)
  return setmetatable({
    statistic = statistic,
    arguments = arguments or "",
    columns = statistic.columns,
    filter = nil,
    listeners = {},
    remarks = {},
    bounds = {},
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

-- A statistic of a file with a header. The rest of it is read when it is asked for: most that are loaded never are.
local FROM_HEADER = { arguments = true, sort = true, columns = true, shown = true, parameters = true }
local function described(file)
  local texts = header.texts(file, "title")
  return setmetatable({ name = texts.name and texts.name[1], title = texts.title and texts.title[1] }, {
    __index = function(statistic, key)
      if not FROM_HEADER[key] then return nil end
      setmetatable(statistic, nil)
      for name, value in pairs(header.read(file)) do statistic[name] = value end
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
    run.parameters, run.arguments = header.arguments(statistic.name, run.arguments, statistic.parameters)
    run.columns = header.columns(statistic.columns, run.parameters)
    if run.columns ~= statistic.columns then run.shown = header.columns(statistic.shown, run.parameters) end
    if (statistic.arguments or "filter") == "filter" then run.filter = run.arguments end
    return start(run)
  end
  sharkstat.register(statistic)
end

return sharkstat
