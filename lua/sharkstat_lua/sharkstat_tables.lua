-- Rows as a table, or as tab-separated values, where sharkstat is not there to lay them out (sharkstat_alone.lua).

local exact = require "sharkstat_exact"
local as_text = require "sharkstat_text"
local sketch = require "sketch"

local tables = {}
local concat, floor = table.concat, math.floor
local safe, number_of = as_text.safe, as_text.number_of

-- The quotient of two measures, as Column.derived_from computes it.
local function ratio(column, row, place)
  local above, below = number_of(row[place[column.above]]), number_of(row[place[column.below]])
  local unit = column.unit or ""
  local factor = unit == "percent" and 100 or unit:find("per second$") and 1e9 or 1
  if column[2] == "duration" or column[2] == "integer" then factor = nil end
  return exact.quotient(above, below, factor)
end

-- The columns of a run, derived ones too, and its rows with the values of all of them.
function tables.whole_rows(run, rows)
  local statistic = run.statistic
  local columns = run.shown or run.columns == statistic.columns and statistic.shown or run.columns
  if columns == run.columns then return columns, rows end
  local place = {}
  for index, column in ipairs(run.columns) do place[column[1]] = index end
  local whole = {}
  for number, row in ipairs(rows) do
    local values = {}
    for index, column in ipairs(columns) do
      if column.above then
        values[index] = ratio(column, row, place)
      elseif column.size_of then
        local set = row[place[column.size_of]]
        values[index] = set and #set or nil
      elseif column.percent then
        local least, most = number_of(row[place[column.least]]), number_of(row[place[column.most]])
        local found = sketch.percentile(row[place[column.sketch]], column.percent, least, most)
        if type(found) == "number" and column[2] ~= "number" then found = floor(found + 0.5) end
        values[index] = found
      else
        values[index] = row[place[column[1]]]
      end
    end
    whole[number] = values
  end
  return columns, whole
end

-- As the header's `sort` says: None is less than any value.
function tables.sort_rows(text, columns, rows)
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
    if type(value) == "table" and not exact.is_whole(value) then return concat(value, "\1") end
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
function tables.lines(run, columns, rows)
  if #rows == 0 then return { caption(run), "no matching packets" } end
  local shown, cells = {}, {}
  for index, column in ipairs(columns) do
    if not column.hidden then shown[#shown + 1] = { index = index, column = column, width = 1 } end
  end
  for number, row in ipairs(rows) do
    local line = {}
    for place, item in ipairs(shown) do
      line[place] = shortened(as_text.cell(item.column, row[item.index]))
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
    item.heading, item.width = stacked(as_text.heading(item.column), item.width)
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
function tables.rows(columns, rows)
  local lines, words = {}, {}
  for index, column in ipairs(columns) do words[index] = safe(exact.escape(column[1])) end
  lines[1] = concat(words, "\t")
  for number, row in ipairs(rows) do
    words = {}
    for index, column in ipairs(columns) do words[index] = as_text.exact(column, row[index]) end
    lines[number + 1] = concat(words, "\t")
  end
  return lines
end

return tables
