-- Taps without sharkstat, in plain tshark and in Wireshark: how they read fields, what they print, and their windows.
-- Loaded by sharkstat.lua when a statistic is asked for, and not before. In a plugin folder Wireshark runs this file as
-- a script, too; that does nothing.

local sharkstat = package.loaded.sharkstat
if not sharkstat then return end

local alone = {}
local concat, floor, format = table.concat, math.floor, string.format

---------------------------------------------------------------------------------------------------
-- Fields

-- A listener whose filter names fields makes tshark put them in the packet's tree, whenever it is made. They are then
-- found among all that the tree holds, once a packet. Their order is that of the tree.
local readers, wanted = {}, {}
local packet_number         -- of the packet whose fields `found` holds
local found

local function find_fields()
  found = {}
  local all = { all_field_infos() }
  for index = 1, #all do
    local info = all[index]
    local name = info.name
    if wanted[name] then
      local before = found[name]
      if before == nil then
        found[name] = info
      elseif type(before) == "table" then
        before[#before + 1] = info
      else
        found[name] = { before, info }
      end
    end
  end
end

-- What sharkstat.field gives: called, it returns the field's FieldInfos, as a Field does. An error where there is no such
-- field. It is the run's that is being started, or of the statistics that the file will register.
function alone.reader(name)
  local run, early = sharkstat.alone_run, sharkstat.early
  if not run and (not early or early.file) then
    early = { names = {} }
    sharkstat.early = early
  end
  local names = run and run.fields or early.names
  if not readers[name] then
    local fine, listener = pcall(Listener.new, "frame", name)
    if not (fine and name:find("^[%w_.%-]+$")) then error("no such field: " .. name, 0) end
    listener:remove()
    wanted[name] = true
    readers[name] = setmetatable({}, {
      __call = function()
        if not found then find_fields() end
        local values = found[name]
        if values == nil then return end
        if type(values) == "table" then return table.unpack(values) end
        return values
      end,
      __index = function(_, key)
        error(("only an extractor tells a field's %s: load the tap with -X lua_script1:%s"):format(key, name), 0)
      end,
    })
  end
  names[name] = true
  return readers[name]
end

local function prime(run)
  local names = {}
  for name in pairs(run.fields) do names[#names + 1] = name end
  if #names == 0 then return end
  table.sort(names)
  run.listeners[#run.listeners + 1] = Listener.new("frame", "frame or " .. concat(names, " or "))
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
    local number = pinfo.number
    if number ~= packet_number then packet_number, found = number, nil end
    slot.packet(pinfo, tvb, info)
  end
  return listener
end

---------------------------------------------------------------------------------------------------
-- Values as people read them (core/sharkstat/view.py does the same)

-- Whatever moves a cursor, colours, reorders or breaks a line, in UTF-8; packets can hold all of it.
local UNSAFE = {
  "%c", "\194[\128-\159]", "\216\156", "\226\128[\139-\143\168-\174]", "\226\129[\160-\175]", "\239\187\191",
  "\237[\160-\191][\128-\191]", "\239\191[\185-\187]",
}

local function written_out(bytes)
  if #bytes == 1 then return format("\\x%02x", bytes:byte()) end
  local one, two, three = bytes:byte(1, 3)
  if #bytes == 2 then
    local code = (one - 192) * 64 + two - 128
    return format(code < 256 and "\\x%02x" or "\\u%04x", code)
  end
  return format("\\u%04x", (one - 224) * 4096 + (two - 128) * 64 + three - 128)
end

-- Bytes that are no UTF-8, written out. (The ranges of RFC 3629, but for overlong forms.)
local function utf8_only(run)
  local at, parts = 1, {}
  while at <= #run do
    local found = run:match("^[\194-\223][\128-\191]", at) or run:match("^[\224-\239][\128-\191][\128-\191]", at)
      or run:match("^[\240-\244][\128-\191][\128-\191][\128-\191]", at)
    parts[#parts + 1] = found or format("\\x%02x", run:byte(at))
    at = at + (found and #found or 1)
  end
  return concat(parts)
end

local function valid(text) return (text:gsub("[\128-\255]+", utf8_only)) end

local function safe(text)
  text = valid(text)
  for _, pattern in ipairs(UNSAFE) do text = text:gsub(pattern, written_out) end
  return text
end

-- A value that is a number, whatever form the tap gave it (digits, a 64-bit object); nil for another.
local function number_of(value)
  if type(value) == "number" then return value end
  if type(value) == "string" or type(value) == "userdata" then return tonumber(tostring(value)) end
  return nil
end

local function grouped(digits)
  local sign, whole, rest = digits:match("^(%-?)(%d+)(.*)$")
  if not whole or rest:find("e", 1, true) then return digits end
  return sign .. whole:reverse():gsub("(%d%d%d)", "%1,"):reverse():gsub("^,", "") .. rest
end

-- Seconds in full: as many decimals as there are.
local function seconds(nanoseconds)
  local sign, digits = "", sharkstat.integer(nanoseconds)
  if digits:sub(1, 1) == "-" then sign, digits = "-", digits:sub(2) end
  digits = ("0"):rep(10 - #digits) .. digits
  local rest = digits:sub(-9):gsub("0+$", "")
  return sign .. digits:sub(1, -10) .. (rest ~= "" and "." .. rest or "")
end

local BYTE_UNITS = { "kB", "MB", "GB", "TB", "PB", "EB" }
local function humanised_bytes(count)
  local size = math.abs(count)
  if size < 1000 then return sharkstat.integer(count) .. " B" end
  for index, unit in ipairs(BYTE_UNITS) do
    size = size / 1000
    local text = format(size < 9.995 and "%.2f" or size < 99.95 and "%.1f" or "%.0f", size)
    if tonumber(text) < 1000 or index == #BYTE_UNITS then return (count < 0 and "-" or "") .. text .. " " .. unit end
  end
end

local LONG_UNITS = { { 86400, math.huge, "d" }, { 3600, 24, "h" }, { 60, 60, "min" }, { 1, 60, "s" } }
local function humanised_duration(nanoseconds)
  local value, sign = math.abs(nanoseconds), nanoseconds < 0 and "-" or ""
  if value == 0 then return "0 s" end
  if value < 1000 then return sign .. format("%.0f ns", value) end
  if value < 1e6 then return sign .. format("%.3g \194\181s", value / 1e3) end
  if value < 999500000 then return sign .. format("%.3g ms", value / 1e6) end
  if value < 100e9 then return sign .. format("%.2f s", value / 1e9) end
  local whole, parts = floor(value / 1e9 + 0.5), {}
  for _, unit in ipairs(LONG_UNITS) do
    local number = floor(whole / unit[1]) % unit[2]
    if unit[2] == math.huge then number = floor(whole / unit[1]) end
    if (number > 0 or #parts > 0) and #parts < 3 then parts[#parts + 1] = format("%.0f %s", number, unit[3]) end
  end
  return sign .. concat(parts, " ")
end

local function is_moment(column)
  return column[2] == "time" or (column[2] == "duration" and (column.rule == "key" or column[1] == "stop"))
end

local function cell(column, value)
  if value == nil then return "-" end
  local kind, unit = column[2], column.unit or ""
  if type(value) == "table" then return safe(concat(value, kind == "set" and ", " or " / ")) end
  if type(value) == "boolean" then return value and "yes" or "no" end
  local number = (kind == "integer" or kind == "number" or kind == "time" or kind == "duration") and number_of(value)
  if not number then return safe(tostring(value)) end
  if kind == "time" then return format("%.6f", number / 1e9) end
  if kind == "duration" then return is_moment(column) and seconds(number) or humanised_duration(number) end
  if unit == "percent" then return format("%.1f %%", number) end
  if number ~= floor(number) then return grouped(format("%.6g", number)) end
  if unit == "bytes" then return humanised_bytes(number) end
  if unit ~= "" and column.rule ~= "key" then return grouped(sharkstat.escape(value)) end
  return sharkstat.escape(value)
end

local function heading(column)
  local text = column.title
  if not text then
    text = column[1]:gsub("_a_to_b$", "_A\226\134\146B"):gsub("_b_to_a$", "_B\226\134\146A"):gsub("_", " ")
    text = text:gsub("(%a)(%w*)", function(first, rest) return first:upper() .. rest end)
  end
  return safe(is_moment(column) and text .. " (s)" or text)
end

---------------------------------------------------------------------------------------------------
-- Values as they are (core/sharkstat/export.py, plain_value)

local function escaped(value) return sharkstat.escape(type(value) == "string" and valid(value) or value) end

local function exact(column, value)
  if value == nil then return "" end
  if type(value) == "table" then
    local mark, parts = column[2] == "set" and "," or "/", {}
    for index, part in ipairs(value) do
      parts[index] = safe(escaped(part)):gsub("%" .. mark, "\\" .. mark)
    end
    return concat(parts, mark)
  end
  if type(value) == "boolean" then return tostring(value) end
  if column[2] == "time" or column[2] == "duration" then
    local number = number_of(value)
    if number then return seconds(number) end
  end
  return safe(escaped(value))
end

---------------------------------------------------------------------------------------------------
-- Tables

-- The quotient of two measures, as Column.derived_from computes it.
local function ratio(column, row, place)
  local above, below = number_of(row[place[column.above]]), number_of(row[place[column.below]])
  if not above or not below or below == 0 then return nil end
  if column[2] == "duration" or column[2] == "integer" then
    local whole = floor(above / below)
    local rest = above - whole * below
    if rest < 0 then whole, rest = whole - 1, rest + below end
    if 2 * rest > below or (2 * rest == below and whole % 2 == 1) then whole = whole + 1 end
    return whole
  end
  local unit = column.unit or ""
  return above / below * (unit == "percent" and 100 or unit:find("per second$") and 1e9 or 1)
end

-- The columns of a run, derived ones too, and its rows with the values of all of them.
local function whole_rows(run, rows)
  local statistic = run.statistic
  local columns = run.shown or run.columns == statistic.columns and statistic.shown or run.columns
  if columns == run.columns then return columns, rows end
  local place = {}
  for index, column in ipairs(run.columns) do place[column[1]] = index end
  local whole = {}
  for number, row in ipairs(rows) do
    local values = {}
    for index, column in ipairs(columns) do
      if column.above then values[index] = ratio(column, row, place) else values[index] = row[place[column[1]]] end
    end
    whole[number] = values
  end
  return columns, whole
end

-- As the header's `sort` says: None is less than any value.
local function sort_rows(text, columns, rows)
  local place, keys = {}, {}
  for index, column in ipairs(columns) do place[column[1]] = index end
  for part in (text or ""):gmatch("[^,]+") do
    local name, direction = part:match("^%s*(%S+)%s*(%S*)")
    if place[name] then
      local index = place[name]
      local kind = columns[index][2]
      local numeric = kind == "integer" or kind == "number" or kind == "time" or kind == "duration"
      keys[#keys + 1] = { index = index, down = direction == "descending", numeric = numeric }
    end
  end
  if #keys == 0 then return end
  local position = {}
  for number, row in ipairs(rows) do position[row] = number end
  local function comparable(row, key)
    local value = row[key.index]
    if value == nil then return nil end
    if key.numeric then return number_of(value) end
    if type(value) == "table" then return concat(value, "\1") end
    return tostring(value)
  end
  table.sort(rows, function(one, other)
    for _, key in ipairs(keys) do
      local a, b = comparable(one, key), comparable(other, key)
      if a ~= b then
        local less = a == nil or (b ~= nil and a < b)
        return less ~= key.down
      end
    end
    return position[one] < position[other]
  end)
end

local LEFT = { text = true, address = true, path = true, set = true, boolean = true }

-- How many characters the text has: UTF-8's further bytes are none.
local function width_of(text) return select(2, text:gsub("[^\128-\191]", "")) end

-- A text of at most 100 characters, its middle left out; rows have it in full.
local function shortened(text)
  if #text <= 100 or width_of(text) <= 100 then return text end
  local characters = {}
  for character in text:gmatch("[%z\1-\127\194-\244][\128-\191]*") do characters[#characters + 1] = character end
  return concat(characters, "", 1, 50) .. "\226\128\166" .. concat(characters, "", #characters - 48)
end

local function caption(run)
  return run.statistic.title .. (run.asked ~= "" and "  [" .. safe(run.asked) .. "]" or "")
end

-- A heading in lines no longer than the column's cells, where its words allow.
local function stacked(text, width)
  for word in text:gmatch("%S+") do width = math.max(width, width_of(word)) end
  local lines = {}
  for word in text:gmatch("%S+") do
    local last = lines[#lines]
    if last and width_of(last) + 1 + width_of(word) <= width then
      lines[#lines] = last .. " " .. word
    else
      lines[#lines + 1] = word
    end
  end
  return lines, width
end

-- The readable table, a line each.
local function table_lines(run, columns, rows)
  if #rows == 0 then return { caption(run), "no matching packets" } end
  local shown, cells = {}, {}
  for index, column in ipairs(columns) do
    if not column.hidden then shown[#shown + 1] = { index = index, column = column, width = 1 } end
  end
  for number, row in ipairs(rows) do
    local line = {}
    for place, item in ipairs(shown) do
      line[place] = shortened(cell(item.column, row[item.index]))
      item.width = math.max(item.width, width_of(line[place]))
    end
    cells[number] = line
  end
  local function laid_out(texts)
    local padded = {}
    for place, item in ipairs(shown) do
      local pad = (" "):rep(item.width - width_of(texts[place]))
      padded[place] = LEFT[item.column[2]] and texts[place] .. pad or pad .. texts[place]
    end
    return (concat(padded, "  "):gsub("%s+$", ""))
  end
  local height, rule = 1, {}
  for place, item in ipairs(shown) do
    item.heading, item.width = stacked(heading(item.column), item.width)
    height, rule[place] = math.max(height, #item.heading), ("-"):rep(item.width)
  end
  local lines = { caption(run) }
  for number = 1, height do
    local head = {}
    for place, item in ipairs(shown) do head[place] = item.heading[number] or "" end
    lines[#lines + 1] = laid_out(head)
  end
  lines[#lines + 1] = laid_out(rule)
  for _, line in ipairs(cells) do lines[#lines + 1] = laid_out(line) end
  return lines
end

-- Tab-separated values, a line each, as `sharkstat run --format tsv` writes them, with times since the first packet.
local function row_lines(columns, rows)
  local lines, words = {}, {}
  for index, column in ipairs(columns) do words[index] = safe(sharkstat.escape(column[1])) end
  lines[1] = concat(words, "\t")
  for number, row in ipairs(rows) do
    words = {}
    for index, column in ipairs(columns) do words[index] = exact(column, row[index]) end
    lines[number + 1] = concat(words, "\t")
  end
  return lines
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
      if how ~= "rows" and how ~= "table" then error("format=" .. how .. ": take rows or table", 0) end
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
    packet_number, found = nil, nil
    local fine, problem = pcall(function() run.finish = statistic.start(run) end)
    sharkstat.alone_run = nil
    if not fine then error(problem, 0) end
  end

  -- The lines of the result so far, or nil and what went wrong.
  function run.result()
    packet_number, found = nil, nil
    if run.failure then
      return nil, ("packet %s: %s"):format(tostring(run.failure.packet), run.failure.message)
    end
    rows = {}
    run.rows = 0
    local fine, problem = pcall(run.finish)
    if not fine then return nil, tostring(problem) end
    local columns, whole = whole_rows(run, rows)
    sort_rows(statistic.sort, columns, whole)
    if run.how == "rows" then return row_lines(columns, whole) end
    return table_lines(run, columns, whole)
  end

  function run.stop()
    for _, listener in ipairs(run.listeners) do listener:remove() end
    run.listeners = {}
  end

  local fine, problem = pcall(function()
    run.begin()
    prime(run)
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
