-- io,stat,INTERVAL[,COLUMN]...: what was sent in every interval, one group of columns a filter.
-- By itself: tshark -q -X lua_script:io_stat.lua -z sharkstat,io,stat,10,tcp,udp -r FILE
--
-- A column is a display filter (its frames and bytes), or CALC(field)filter with CALC one of FRAMES,
-- BYTES, COUNT, SUM, MIN, MAX, AVG, LOAD. Time starts at the capture's first packet; interval k holds
-- k*INTERVAL <= time < (k+1)*INTERVAL, with the time rounded to microseconds as tshark does. Every
-- packet has its interval, wherever in the file it stands, and an interval without packets has no row, unless LOAD reaches
-- back over it. Beside filters there are columns for all packets and for those that no filter took. Among the columns may be
-- max=ROWS: of more intervals the first so many have rows, by default 100000, and one more row adds up all others.

package.path = (__DIR__ or debug.getinfo(1, "S").source:match("@(.*[/\\])")) .. "?.lua;" .. package.path
local sharkstat = require "sharkstat"
local exact = require "sharkstat_exact"

local floor = math.floor
local relative_ns = sharkstat.relative_ns

-- Splits at commas outside quotes and brackets, so that `tcp.port in {80,443}` is one column.
local function split(text)
  local parts, depth, quote, from = {}, 0, nil, 1
  local at = 1
  while at <= #text do
    local c = text:sub(at, at)
    if quote then
      if c == "\\" then at = at + 1 elseif c == quote then quote = nil end
    elseif c == '"' or c == "'" then
      quote = c
    elseif c == "{" or c == "(" or c == "[" then
      depth = depth + 1
    elseif c == "}" or c == ")" or c == "]" then
      depth = depth - 1
    elseif c == "," and depth <= 0 then
      parts[#parts + 1] = text:sub(from, at - 1)
      from = at + 1
    end
    at = at + 1
  end
  parts[#parts + 1] = text:sub(from)
  return parts
end

local CALCULATIONS = {
  FRAMES = true, BYTES = true, COUNT = true, SUM = true, MIN = true, MAX = true, AVG = true, LOAD = true,
}

local function column_of(text)
  text = text:match("^%s*(.-)%s*$")
  local calculation, field, filter = text:match("^(%u+)%s*%(%s*([%w%._%-]*)%s*%)%s*(.*)$")
  if calculation and CALCULATIONS[calculation] then
    return { calculation = calculation, field = field ~= "" and field or nil, filter = filter }
  end
  return { filter = text }
end

-- Beside filters there are all packets, first, and what no filter took, last: so the columns add up.
local function complete(columns)
  local filters, all = {}, false
  for _, column in ipairs(columns) do
    if not column.calculation then
      if column.filter == "" then all = true else filters[#filters + 1] = "(" .. column.filter .. ")" end
    end
  end
  if #filters == 0 then return end
  if not all then table.insert(columns, 1, { filter = "" }) end
  columns[#columns + 1] = { filter = "!(" .. table.concat(filters, " || ") .. ")", called = "other" }
end

local function parse(arguments)
  local parts = split(arguments)
  local seconds = tonumber(parts[1])
  if not seconds or seconds < 0 then error("io,stat: the interval must be a number of seconds: " .. parts[1], 0) end
  local columns = {}
  local most = 100000
  for index = 2, #parts do
    local rows = parts[index]:match("^%s*max%s*=%s*(%d+)%s*$")
    if rows then most = tonumber(rows) else columns[#columns + 1] = column_of(parts[index]) end
  end
  if #columns == 0 then columns[1] = { filter = "" } end
  complete(columns)
  return floor(seconds * 1e6 + 0.5), columns, most
end

-- How the values of a field are kept: durations in nanoseconds, and these and integers as whole numbers that lose no
-- digit (sharkstat_exact.lua).
local DURATION, WHOLE, FLOAT = 1, 2, 3
local KINDS = {}
for kind, names in pairs {
  [DURATION] = { "RELATIVE_TIME" },
  [WHOLE] = {
    "UINT8", "UINT16", "UINT24", "UINT32", "UINT40", "UINT48", "UINT56", "UINT64", "INT8", "INT16", "INT24", "INT32",
    "INT40", "INT48", "INT56", "INT64",
  },
  [FLOAT] = { "FLOAT", "DOUBLE" },
} do
  for _, name in ipairs(names) do if ftypes[name] then KINDS[ftypes[name]] = kind end end
end

local function number_of(found, kind)
  local value = found.value
  if kind == DURATION then return exact.nanoseconds(value) end
  if kind == WHOLE and type(value) ~= "number" then return exact.number(value) end
  return value
end

local function add(total, value, kind)
  if total == nil then return value end
  if kind == FLOAT then return total + value end
  return exact.plus(total, value)
end

-- Each counter: packet(slots, pinfo, bucket, slot_of) adds to the slots from `at` on.
local counters = {}

function counters.FRAMES(_, at)
  return { "integer" }, function(slots) slots[at] = (slots[at] or 0) + 1 end
end

function counters.BYTES(_, at)
  return { "integer" }, function(slots, pinfo) slots[at] = (slots[at] or 0) + pinfo.len end
end

function counters.COUNT(column, at)
  local field = column.reader
  return { "integer" }, function(slots) slots[at] = (slots[at] or 0) + select("#", field()) end
end

local function type_of(kind) return kind == DURATION and "duration" or "number" end

function counters.SUM(column, at, kind)
  local field = column.reader
  return { type_of(kind) }, function(slots)
    for _, found in ipairs { field() } do slots[at] = add(slots[at], number_of(found, kind), kind) end
  end
end

function counters.AVG(column, at, kind)
  local field = column.reader
  return { type_of(kind), "integer" }, function(slots)
    for _, found in ipairs { field() } do
      slots[at] = add(slots[at], number_of(found, kind), kind)
      slots[at + 1] = (slots[at + 1] or 0) + 1
    end
  end
end

local function extreme(wanted)
  return function(column, at, kind)
    local field = column.reader
    return { type_of(kind) }, function(slots)
      for _, found in ipairs { field() } do
        local value = number_of(found, kind)
        if slots[at] == nil or wanted(value, slots[at]) then slots[at] = value end
      end
    end
  end
end

counters.MIN = extreme(function(a, b) return a < b end)
counters.MAX = extreme(function(a, b) return a > b end)

-- The same key of a table for each start that no double holds.
local far = {}
local function key_of(start)
  if type(start) == "number" then return start end
  local digits = tostring(start)
  far[digits] = far[digits] or start
  return far[digits]
end

-- The load of an interval is the time that calls were under way in it: a response time reaches back
-- from its packet over the intervals before, in whole microseconds, as far as the first interval. Of the intervals that
-- a call fills, only the first is noted, and the first behind them: there may be millions.
function counters.LOAD(column, at, _, interval, slots_of)
  local field = column.reader
  local exact_start = exact.interval(1)
  local function add_to(bucket, microseconds)
    local slots = slots_of(bucket)
    slots[at] = exact.plus(slots[at] or 0, exact.of_microseconds(microseconds))
  end
  local function note(start, calls)
    start = key_of(start)
    column.filled[start] = (column.filled[start] or 0) + calls
  end
  column.filled = {}
  return { "duration" }, function(_, pinfo, bucket)
    local into = interval > 0 and exact.elapsed(bucket, exact_start(relative_ns(pinfo))) or math.huge
    for _, found in ipairs { field() } do
      local left = exact.divided(exact.nanoseconds(found.value), 1000)
      if left > 0 then
        local part = into < left and into or left
        add_to(bucket, part)
        left = exact.elapsed(part, left)
        if left > 0 and bucket > 0 then
          if bucket < left then left = bucket end
          local _, rest = exact.divided(left, interval)
          local first = exact.plus(exact.elapsed(left, bucket), rest)
          if first < bucket then
            note(first, 1)
            note(bucket, -1)
          end
          if rest > 0 then add_to(exact.elapsed(interval, first), rest) end
        end
      end
    end
  end
end

-- How a value is kept whose field's type is not known: by itself, a tap sees it only in the first value.
local function kind_of(value)
  if type(value) == "number" then return FLOAT end
  if type(value) ~= "userdata" then return nil end
  local fine, seconds = pcall(function() return value.secs end)
  if fine and seconds then return DURATION end
  return tonumber(tostring(value)) and WHOLE
end

local function check_kind(column, kind)
  local wrong = not kind and "a number or a duration"
    or column.calculation == "LOAD" and kind ~= DURATION and "a duration"
  if wrong then error(("io,stat: %s(%s): the field is not %s"):format(column.calculation, column.field, wrong), 0) end
end

-- The counter of a column whose field's type only its first value tells.
local function late_counter(column, at, interval, slots_of)
  local field, packet = column.reader, nil
  return { "number", column.calculation == "AVG" and "integer" or nil }, function(slots, pinfo, bucket)
    if not packet then
      local first = field()
      if not first then return end
      local kind = kind_of(first.value)
      check_kind(column, kind)
      local real_types
      real_types, packet = counters[column.calculation](column, at, kind, interval, slots_of)
      column.learn(real_types[1])
    end
    packet(slots, pinfo, bucket)
  end
end

-- The columns as people read them: what they were asked for as, and an average instead of its sum and count.
local function readable(shown, columns)
  local result = { shown[1] }
  for _, column in ipairs(columns) do
    local own, filter = column.shown, column.filter ~= "" and " " .. (column.called or column.filter) or ""
    if not column.calculation then
      own[1].title, own[2].title, own[1].unit, own[2].unit = "Frames" .. filter, "Bytes" .. filter, "frames", "bytes"
    else
      own[1].title = ("%s(%s)%s"):format(column.calculation, column.field or "", filter)
      if column.calculation == "BYTES" then own[1].unit = "bytes" end
    end
    for _, one in ipairs(own) do result[#result + 1] = one end
    if column.calculation == "AVG" then
      own[1].hidden, own[2].hidden = true, true
      column.mean = { own[1][1] .. ".mean", "number", title = own[1].title, above = own[1][1], below = own[2][1] }
      result[#result + 1] = column.mean
    end
  end
  return result
end

-- Prepares the counters of a column: their types, and the function that counts a packet.
local function counter_of(column, at, interval, slots_of)
  if not column.calculation then
    local frames, bytes = at, at + 1
    return { "integer", "integer" }, function(slots, pinfo)
      slots[frames] = (slots[frames] or 0) + 1
      slots[bytes] = (slots[bytes] or 0) + pinfo.len
    end
  end
  local calculation, kind = column.calculation, WHOLE
  if calculation ~= "FRAMES" and calculation ~= "BYTES" then
    if not column.field then error(("io,stat: %s() needs a field"):format(calculation), 0) end
    local fine, field = pcall(sharkstat.field, column.field)
    if not fine then error(("io,stat: %s(): no such field: %s"):format(calculation, column.field), 0) end
    column.reader = field
    if calculation ~= "COUNT" then
      if not sharkstat.hosted then return late_counter(column, at, interval, slots_of) end
      kind = KINDS[field.type]
      check_kind(column, kind)
    end
  end
  return counters[calculation](column, at, kind, interval, slots_of)
end

-- A whole number, so many times.
local function times(value, count)
  if value * count < 9e15 then return value * count end
  local sum = 0
  while count > 0 do
    if count % 2 == 1 then sum = exact.plus(sum, value) end
    value, count = exact.plus(value, value), floor(count / 2)
  end
  return sum
end

-- Calls row(start, slots, calls, count) for each interval that has a row, in time order; `calls` has for each column of LOAD
-- how many fill it. From the row `most` on, it is called for `count` intervals without slots of their own at once.
local function each_interval(interval, buckets, loads, most, row)
  local order, edges, calls = {}, {}, {}
  for bucket in pairs(buckets) do order[#order + 1] = bucket end
  table.sort(order)
  for index, load in ipairs(loads) do
    calls[index] = 0
    for edge in pairs(load.filled) do edges[#edges + 1] = edge end
  end
  table.sort(edges)
  local at, edge_at, under_way, start, rows = 1, 1, 0, nil, 0
  while true do
    if under_way == 0 then
      start = order[at]
      local edge = edges[edge_at]
      if edge and (not start or edge < start) then start = edge end
      if not start then return end
    end
    local last
    while edges[edge_at] and edges[edge_at] <= start do
      local edge = edges[edge_at]
      if edge ~= last then -- two columns may have it
        for index, load in ipairs(loads) do
          calls[index] = calls[index] + (load.filled[edge] or 0)
          under_way = under_way + (load.filled[edge] or 0)
        end
      end
      last, edge_at = edge, edge_at + 1
    end
    if order[at] and order[at] == start then
      row(start, buckets[order[at]], calls, 1)
      rows, at, start = rows + 1, at + 1, exact.plus(start, interval)
    elseif under_way > 0 then
      local count = 1
      if rows >= most then
        local stop = edges[edge_at]
        if order[at] and order[at] < stop then stop = order[at] end
        count = exact.divided(exact.elapsed(start, stop), interval)
      end
      row(start, nil, calls, count)
      rows, start = rows + count, exact.plus(start, times(interval, count))
    end
  end
end

sharkstat.register {
  name = "io,stat",
  z_name = "sharkstat,io,stat",
  title = "I/O statistics",
  example = "1",
  columns = { { "start", "duration" } },
  start = function(run)
    local interval, columns, most = parse(run.arguments)
    local buckets = {}
    local function slots_of(bucket)
      local slots = buckets[bucket]
      if not slots then
        slots = {}
        buckets[bucket] = slots
      end
      return slots
    end
    -- An interval goes by the microsecond that it begins with.
    local start_of = interval > 0 and exact.interval(interval) or function() return 0 end
    local function bucket_of(pinfo) return start_of(relative_ns(pinfo)) end

    local shown, slots = { { "start", "duration", rule = "key" } }, 0
    local seen_by_column = false
    for number, column in ipairs(columns) do
      local first_slot = slots + 1
      column.shown, column.at = {}, first_slot
      function column.learn(type_name)
        shown[first_slot + 1][2] = type_name
        if column.mean then column.mean[2] = type_name end
      end
      local types, packet = counter_of(column, slots + 1, interval, slots_of)
      for index, type_name in ipairs(types) do
        column.shown[index] = { ("%d.%d"):format(number, index), type_name }
        shown[#shown + 1] = column.shown[index]
      end
      slots = slots + #types
      -- A column without a filter has every packet, so its intervals are all that there are.
      if column.filter == "" then seen_by_column = true end
      run:listen("frame", function(pinfo)
        local bucket = bucket_of(pinfo)
        packet(slots_of(bucket), pinfo, bucket)
      end, column.filter)
    end
    if not seen_by_column then
      run:listen("frame", function(pinfo) slots_of(bucket_of(pinfo)) end)
    end
    run.columns = shown
    if not sharkstat.hosted then run.shown = readable(shown, columns) end

    local loads, extremes = {}, {}
    for _, column in ipairs(columns) do
      if column.calculation == "MIN" or column.calculation == "MAX" then extremes[column.at] = column.calculation end
      if column.calculation == "LOAD" then loads[#loads + 1] = column end
    end
    local function join(rest, slot, value)
      local known = rest[slot + 1]
      if known == nil or value == nil then
        rest[slot + 1] = known or value
      elseif extremes[slot] then
        if (extremes[slot] == "MIN") == (value < known) then rest[slot + 1] = value end
      else
        rest[slot + 1] = add(known, value, (known - known ~= 0 or value - value ~= 0) and FLOAT or WHOLE) -- infinite ones
      end
    end

    return function()
      local rows, rest, others = 0, {}, 0
      local started = {}
      for _, load in ipairs(loads) do
        if load.filled then started[#started + 1] = load end -- its field's type may not be known yet
      end
      each_interval(interval, buckets, started, most, function(start, own, calls, count)
        local row = { exact.thousand(start) }
        for slot = 1, own and slots or 0 do row[slot + 1] = own[slot] end
        for index, load in ipairs(started) do
          if calls[index] > 0 then
            local filled = exact.of_microseconds(times(interval, calls[index] * count))
            row[load.at + 1] = exact.plus(row[load.at + 1] or 0, filled)
          end
        end
        rows = rows + count
        if rows <= most then return run:row(row) end
        others = others + count
        for slot = 1, slots do join(rest, slot, row[slot + 1]) end
      end)
      if others > 0 then run:others(rest, others) end
    end
  end,
}
