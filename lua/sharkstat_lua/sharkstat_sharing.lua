-- Listeners that are shared: one of tshark's for each tap and filter, whoever wants it. A part of the library (sharkstat.lua).
--
-- An entry is { packet = FUNCTION, run = RUN, wants = FUNCTION }: without a run it is the host's, and its errors are the host's.
-- `wants` (Run:listen) picks the packets by their path (layers.lua); it is asked once for each path that comes. What nearly
-- all entries ask of a packet is read once, and given to all: its number, length and time (sharkstat.moment), and its path
-- where any entry has `wants`.

local sharing = {}

local shared = {}  -- by tap and filter
local function by_path() return setmetatable({}, { __mode = "k" }) end  -- layers.lua forgets paths, too
local ALL = {}  -- stands for a path where none is read
local path_of, moment  -- what tells a packet's path, there once an entry wants it, and its number, length and time

local function described(message)
  return { message, debug and debug.traceback and debug.traceback() or "" }
end

local function fail(run, problem, pinfo)
  run.failure = { message = tostring(problem[1]), packet = pinfo.number, traceback = problem[2] }
end

-- What calls packet(pinfo, tvb, info) for a run alone, until there is an error in it.
function sharing.guarded(run, packet)
  return function(...)
    if run.failure then return end
    local fine, problem = xpcall(packet, described, ...)
    if not fine then fail(run, problem, (...)) end
  end
end

-- Forgets which entries want which paths: for an entry that changes its mind, and for runs that have failed.
function sharing.forget()
  for _, one in pairs(shared) do
    local left = {}
    for _, entry in ipairs(one.entries) do
      if not (entry.run and entry.run.failure) then left[#left + 1] = entry end
    end
    one.entries, one.by_path = left, by_path()
  end
end

-- What is called for a path, and whose it is; without a path, all.
local function wanted(entries, path)
  local list, runs = {}, {}
  for _, entry in ipairs(entries) do
    if not (path and entry.wants) or entry.wants(path) then
      list[#list + 1] = entry.packet
      runs[#list] = entry.run or false
    end
  end
  list.runs = runs
  return list
end

local current, at  -- what is called for the packet at hand, and which of them is

local function call_rest(pinfo, tvb, info, number, length, time, path)
  local list = current
  for index = at + 1, #list do
    at = index
    list[index](pinfo, tvb, info, number, length, time, path)
  end
end

local function caller(one)
  return function(pinfo, tvb, info)
    local number, length, time = moment(pinfo)
    local path = one.by_paths and path_of(number) or nil
    local list = one.by_path[path or ALL]
    if not list then
      list = wanted(one.entries, path)
      one.by_path[path or ALL] = list
    end
    current, at = list, 0
    while true do
      local fine, problem = xpcall(call_rest, described, pinfo, tvb, info, number, length, time, path)
      if fine then return end
      local run = list.runs[at]
      if not run then error(problem[1], 0) end
      fail(run, problem, pinfo)
      sharing.forget()
      local left = { runs = {} }
      for index = at + 1, #list do
        if list.runs[index] ~= run then
          left.runs[#left + 1] = list.runs[index]
          left[#left + 1] = list[index]
        end
      end
      list, current, at = left, left, 0
    end
  end
end

-- Adds an entry to the listener of a tap with a filter; gives what has that `listener`.
function sharing.listen(tap, filter, entry)
  local key = tap .. "\t" .. (filter or "")
  local one = shared[key]
  moment = moment or require("sharkstat").moment
  if not one then
    local made, listener = pcall(function() return Listener.new(tap, filter) end)
    if not made then
      local unknown = tostring(listener):find("Tap " .. tap .. " not found", 1, true)
      local of_python = debug.getinfo(3, "S").source:find("feed.lua", 1, true) -- a counter's: no place in Lua helps
      error(unknown and ("tshark has no tap " .. tap) or listener, unknown and not of_python and 3 or 0)
    end
    one = { listener = listener, entries = {}, by_path = by_path() }
    one.listener.packet = caller(one)
    shared[key] = one
  end
  one.entries[#one.entries + 1] = entry
  one.by_path = by_path()
  if entry.wants then
    one.by_paths = true
    path_of = path_of or require("layers").reader()
  end
  return one
end

return sharing
