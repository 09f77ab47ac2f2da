-- group,by=FIELD,sum=FIELD,...[,FILTER]: packets by the values of any fields, and what is counted of them. Declared
-- statistics run on this one tap (core/sharkstat/statistics/group.py has the same grammar).
-- By itself: tshark -q -X lua_script:group.lua -X lua_script1:ip.src -z sharkstat,group,by=ip.src -r FILE
--
-- For the requests of each filter one function is written, which does what they ask for and nothing else. A field is read
-- once a packet, however many of them want it.

package.path = (__DIR__ or debug.getinfo(1, "S").source:match("@(.*[/\\])")) .. "?.lua;" .. package.path
local sharkstat = require "sharkstat"
local Writer = require "group_writer"
local keys = require "group_keys"
local measures = require "group_measures"

-- The type of a field, which this tap must know, only an extractor tells, and tshark makes those only while it loads
-- scripts: by itself, this tap must have them named there.
for _, name in ipairs { ... } do sharkstat.extractor(name) end

local concat = table.concat

local function read(arguments)
  local asked_keys, asked_measures, rest = {}, {}, arguments
  while true do
    local word, value, after = rest:match("^(%l+)=([^=,][^,]*),?(.*)$")
    if word and keys.read[word] then
      asked_keys[#asked_keys + 1] = keys.read[word](value)
    elseif word and measures.read[word] then
      asked_measures[#asked_measures + 1] = measures.read[word](value)
    else
      word, after = rest:match("^(%l+),?(.*)$")
      if not measures.bare[word] or rest:sub(#word + 1, #word + 1):find("[^,]") then break end
      asked_measures[#asked_measures + 1] = { kind = word }
    end
    rest = after
  end
  if #asked_measures == 0 then asked_measures[1] = { kind = "count" } end
  return asked_keys, asked_measures, rest
end

-- So many groups are kept of a request whose rows Python makes others of (folding.py); then they are sent, and counting
-- begins anew: the fields may have any number of values, and the rows that are made of them are fewer.
local MOST_FOLDED = 50000

-- Writes one request: it puts a group with its keys and slots into `all` for every different key. It counts the measures
-- with this filter of their own.
local function write_request(writer, asked_keys, asked_measures, state, where)
  local columns, names, loops = {}, {}, 0
  writer:put("do")
  if state.send then
    local all, send = writer:outside(state.all), writer:outside(state.send)
    writer:put("if %s[%d] then %s() end", all, MOST_FOLDED, send)
  end
  for index, key in ipairs(asked_keys) do
    names[index] = "k" .. index
    local column, looped = keys.write[key.kind](writer, key, names[index])
    columns[index] = { names[index], column }
    if looped then loops = loops + 1 end
  end
  local before = writer.lines
  writer.lines = {}
  local slots = {}
  for _, measure in ipairs(asked_measures) do
    local at = #columns + 1
    local counted = #writer.lines
    local types, initial, since_1970 = measures.write[measure.kind](writer, measure, at)
    if measure.where ~= where then
      for index = #writer.lines, counted + 1, -1 do writer.lines[index] = nil end
    end
    for index, column in ipairs(types) do
      columns[#columns + 1] = { "m" .. at + index - 1, column, since_1970 = since_1970 }
      slots[#slots + 1] = initial[index]
    end
  end
  local counting = writer.lines
  writer.lines = before
  local depth = math.max(#names - 1, 0)
  writer:put("local t0 = %s", writer:outside(state.groups))
  for index = 1, depth do
    writer:put("local t%d = t%d[%s]", index, index - 1, names[index])
    writer:put("if not t%d then t%d = {} t%d[%s] = t%d end", index, index, index - 1, names[index], index)
  end
  local last, all = names[#names] or "1", writer:outside(state.all)
  for _, slot in ipairs(slots) do names[#names + 1] = slot end
  writer:put("local g = t%d[%s]", depth, last)
  writer:put("if not g then g = { %s } t%d[%s] = g %s[#%s + 1] = g end", concat(names, ", "), depth, last, all, all)
  if depth == 0 and #asked_keys == 0 then state.nothing = load("return { " .. concat(slots, ", ") .. " }", "=group", "t") end
  for _, line in ipairs(counting) do writer:put(line) end
  writer:put(("end "):rep(loops + 1))
  return columns
end

---------------------------------------------------------------------------------------------------
-- Rows

local function row_value(value, column)
  if value == keys.none or value == nil then return nil end
  local kind = column[2]
  -- A time that is a text was a key, and is since 1970.
  if kind == "time" and (column.since_1970 or type(value) == "string") then return "@" .. sharkstat.integer(value) end
  return value
end

-- Requests of one filter that have not seen a packet yet share a writer; by itself each has its own.
local writers = {}

local function start(run)
  -- The lines behind the first are filters of the measures, in their order.
  local first, lines = run.arguments:match("^([^\n]*)\n?(.*)$")
  local folded
  first, folded = first:gsub("^fold,", "")
  local asked_keys, asked_measures, filter = read(first)
  run.filter = filter
  local wheres = {}
  local index = 0
  for line in (lines .. "\n"):gmatch("(.-)\n") do
    index = index + 1
    if line ~= "" and asked_measures[index] then
      asked_measures[index].where = line
      if not wheres[line] then
        wheres[line] = Writer.new()
        wheres[#wheres + 1] = line
      end
    end
  end
  local shared = writers[filter]
  if not shared or not sharkstat.hosted or shared.writer:is_full() then
    shared = { writer = Writer.new(), run = run }
    writers[filter] = shared
    local packet
    run:listen("frame", function(pinfo)
      packet = packet or shared.writer:written()
      packet(pinfo)
    end)
  end
  local state = { groups = {}, all = {} }
  if folded > 0 then
    function state.send()
      state.emit()
      run.part()
      for key in pairs(state.groups) do state.groups[key] = nil end
      for index = #state.all, 1, -1 do state.all[index] = nil end
      for _, key in ipairs(asked_keys) do
        if key.forget then key.forget() end
      end
    end
  end
  local columns = write_request(shared.writer, asked_keys, asked_measures, state)
  run.columns = columns
  for _, where in ipairs(wheres) do
    local writer = wheres[where]
    write_request(writer, asked_keys, asked_measures, state, where)
    local packet
    run:listen("frame", function(pinfo)
      packet = packet or writer:written()
      packet(pinfo)
    end, where)
  end

  function state.emit()
    -- A total is a row even of no packets.
    for _, group in ipairs(state.nothing and not state.all[1] and { state.nothing() } or state.all) do
      local row = {}
      for index, column in ipairs(columns) do
        local value = group[index]
        if value == false and index > #asked_keys then value = nil end -- nothing was counted
        row[index] = row_value(value, column)
      end
      run:row(row)
    end
  end

  return function()
    local failure = shared.run.failure
    if failure then error(("packet %s: %s"):format(failure.packet, failure.message), 0) end
    state.emit()
  end
end

sharkstat.register {
  name = "group",
  z_name = "sharkstat,group",
  title = "Groups of packets",
  columns = {},
  start = start,
}
