-- Taps without sharkstat, in plain tshark and in Wireshark: their runs, and their windows.
-- Loaded by sharkstat.lua when a statistic is asked for, and not before. In a plugin folder Wireshark runs this file as
-- a script, too; that does nothing.

local sharkstat = package.loaded.sharkstat
if not sharkstat then return end
local fields = require "sharkstat_fields"
local tables = require "sharkstat_tables"
local safe = require("sharkstat_text").safe

local alone = {}
local concat = table.concat

-- What sharkstat.field gives: the run's that is being started, or of the statistics that the file will register.
function alone.reader(name)
  local run, early = sharkstat.alone_run, sharkstat.early
  if not run and (not early or early.file) then
    early = { names = {} }
    sharkstat.early = early
  end
  local reader = fields.reader(name)
  local names = run and run.fields or early.names
  names[name] = true
  return reader
end

-- Run:listen by itself. A run that starts again (Wireshark reads the packets again) keeps the listeners that it has.
function alone.listen(run, tap, packet, filter)
  run.listens = run.listens + 1
  local slot = run.slots[run.listens]
  if slot then
    slot.packet = packet
    return slot.listener
  end
  local listener = Listener.new(tap, sharkstat.all_of(run.filter, filter))
  slot = { listener = listener, packet = packet }
  run.slots[run.listens] = slot
  run.listeners[#run.listeners + 1] = listener
  function listener.packet(pinfo, tvb, info)
    fields.packet(pinfo.number)
    slot.packet(pinfo, tvb, info, sharkstat.moment(pinfo))
  end
  return listener
end

---------------------------------------------------------------------------------------------------
-- Runs

-- Takes format=rows (or table) out of the NAME=VALUE that the arguments begin with: every tap understands it here.
local function take_format(arguments)
  local kept, rest, how = {}, arguments, "table"
  while true do
    local pair, name, value, after = rest:match("^(%s*([%a_][%w_]*)%s*=%s*([^=,~%s][^,]*),?)(.*)$")
    if not pair then break end
    if name == "format" then
      how = value:match("^(.-)%s*$")
      if how ~= "rows" and how ~= "table" then error("format=" .. how .. ": choose rows or table", 0) end
    else
      kept[#kept + 1] = pair
    end
    rest = after
  end
  local text = concat(kept) .. rest
  if how ~= "table" and rest == "" then text = text:gsub(",%s*$", "") end
  return text, how
end

-- Starts a run; its listeners are gone again where it does not start.
local function start(statistic, arguments)
  local rows = {}
  local text, how = take_format(arguments)
  local run = sharkstat.new_run(statistic, text, function(_, values) rows[#rows + 1] = values end)
  run.asked, run.how, run.fields, run.slots, run.listens = text, how, {}, {}, 0
  run.redrawn = gui_enabled()
  for name in pairs(statistic.early or {}) do run.fields[name] = true end

  -- In Wireshark packets are read again, and `start` makes what is counted anew.
  function run.begin()
    sharkstat.alone_run, run.listens, run.failure, run.arguments = run, 0, nil, text
    run.remarks, run.bounds = {}, {}
    fields.packet(nil)
    local fine, problem = pcall(function() run.finish = statistic.start(run) end)
    sharkstat.alone_run = nil
    if not fine then error(problem, 0) end
  end

  -- The lines of the result so far, or nil and what went wrong.
  function run.result()
    fields.packet(nil)
    if run.failure then
      return nil, ("packet %s: %s"):format(tostring(run.failure.packet), run.failure.message)
    end
    rows = {}
    run.rows = 0
    local fine, problem = pcall(run.finish)
    if not fine then return nil, tostring(problem) end
    local columns, whole = tables.whole_rows(run, rows)
    tables.sort_rows(statistic.sort, columns, whole)
    if run.how == "rows" then return tables.rows(columns, whole) end
    return tables.lines(run, columns, whole)
  end

  function run.stop()
    for _, listener in ipairs(run.listeners) do listener:remove() end
    run.listeners = {}
  end

  local fine, problem = pcall(function()
    run.begin()
    run.listeners[#run.listeners + 1] = fields.prime(run.fields)
  end)
  if not fine then
    pcall(run.stop)
    error(problem, 0)
  end
  return run
end

-- One line that says what is wrong. Before a filter's fault tshark puts the place in Lua, which tells a user nothing.
local function reason(problem)
  local text = tostring(problem)
  text = text:match("registering tap:%s*(.*)") or text
  return safe((text:gsub("^%s+", ""):gsub("%s*\n%s*", " ")))
end

local printed = false

local function print_result(run)
  local lines, problem = run.result()
  if not lines then
    io.stderr:write("tshark: ", run.statistic.name, ": ", reason(problem), "\n")
    return
  end
  for _, say in ipairs(run.remarks) do
    local text = say()
    if text then io.stderr:write("tshark: ", run.statistic.name, ": ", safe(text), "\n") end
  end
  if run.how == "table" or printed then print("") end
  printed = true
  print(concat(lines, "\n"))
end

local open_window

-- What follows the name in -z NAME,ARGUMENTS.
local function arguments_of(statistic, argument)
  local text, prefix = tostring(argument or ""), statistic.z_name or statistic.name
  if text:sub(1, #prefix) == prefix then text = text:sub(#prefix + 1) end
  return (text:gsub("^,", ""))
end

-- Asked for with -z. tshark swallows the reason of an error in its callback, and would go on.
function alone.asked(statistic, argument)
  local arguments = arguments_of(statistic, argument)
  if gui_enabled() then return open_window(statistic, arguments) end
  local fine, run = pcall(start, statistic, arguments)
  if not fine then
    local text = reason(run)
    if text:sub(1, #statistic.name) ~= statistic.name then text = statistic.name .. ": " .. text end
    io.stderr:write("tshark: ", text, "\n")
    io.stderr:flush()
    os.exit(1)
  end
  -- Every listener is drawn at the end; the first one speaks for all.
  run.listeners[1].draw = function() print_result(run) end
end

---------------------------------------------------------------------------------------------------
-- Wireshark

-- A window with the table, drawn anew while packets come.
function open_window(statistic, arguments)
  local window = TextWindow.new(statistic.title)
  local fine, run = pcall(start, statistic, arguments)
  if not fine then
    window:set(reason(run))
    return
  end
  local function show()
    local lines, problem = run.result()
    window:set(lines and concat(lines, "\n") or reason(problem))
  end
  run.listeners[1].draw = show
  run.listeners[1].reset = function() run.begin() end
  window:set_atclose(run.stop)
  retap_packets()
end

-- Chosen in the menu: asks for what the statistic takes, and opens its window.
function alone.chosen(statistic)
  local labels, parameters = {}, statistic.parameters or {}
  for _, parameter in ipairs(parameters) do
    local meaning = parameter.description ~= "" and " (" .. parameter.description .. ")" or ""
    labels[#labels + 1] = { name = parameter.name .. meaning, value = parameter.default or "" }
  end
  local takes = statistic.arguments or "text"
  if takes ~= "none" then
    local is_filter = takes == "filter"
    labels[#labels + 1] = {
      name = is_filter and "Display filter" or "Arguments or display filter",
      value = is_filter and get_filter() or statistic.example or "",
    }
  end
  if #labels == 0 then return open_window(statistic, "") end
  new_dialog(statistic.title, function(...)
    local given, words = { ... }, {}
    for index, parameter in ipairs(parameters) do
      local text = given[index] or ""
      if text ~= "" and text ~= parameter.default then words[#words + 1] = parameter.name .. "=" .. text end
    end
    if takes ~= "none" and (given[#labels] or "") ~= "" then words[#words + 1] = given[#labels] end
    open_window(statistic, concat(words, ","))
  end, table.unpack(labels))
end

return alone
