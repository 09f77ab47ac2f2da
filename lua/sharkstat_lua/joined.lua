-- joined: the requests and responses of a statistic that is a sharkstat.Joined, one row each, with the values that pair
-- them. core/sharkstat/statistics/pairing.py makes the table of these rows, for both engines.
--
-- Its arguments are lines: the requests' filter, the responses' filter, and for each value "request FIELD[/FIELD...]:last"
-- or "response ...", with :first for the first of several values, and with :names behind it for their names, too.

package.path = (__DIR__ or debug.getinfo(1, "S").source:match("@(.*[/\\])")) .. "?.lua;" .. package.path
local sharkstat = require "sharkstat"
local values = require "values"

-- What gives the value of the first of the fields that a packet has, and the type of its column.
local function reader(names, occurrence, named)
  local sources, column = {}, nil
  for name in names:gmatch("[^/]+") do
    local extractor = sharkstat.field(name)
    local kind = values.kind(extractor.type)
    local key = named and values.naming(name, extractor.type, kind.key) or kind.key
    column = (column == nil or column == kind.column) and kind.column or "text"
    sources[#sources + 1] = function()
      local found = { extractor() }
      local one = found[occurrence == "last" and #found or 1]
      if one then return key(one) end
    end
  end
  local since_1970 = column == "time"
  return function()
    for _, source in ipairs(sources) do
      local value = source()
      if value ~= nil then return since_1970 and "@" .. value or value end
    end
  end, column
end

local function start(run)
  local lines = {}
  for line in (run.arguments .. "\n"):gmatch("(.-)\n") do lines[#lines + 1] = line end
  local columns = { { "packet", "integer" }, { "time", "time" }, { "sides", "integer" } }
  local readers = { request = {}, response = {} }
  for index = 3, #lines do
    local line, named = lines[index]:gsub(":names$", "")
    local side, names, occurrence = line:match("^(%l+) (.+):(%l+)$")
    local read, column = reader(names, occurrence, named > 0)
    columns[#columns + 1] = { "value " .. index - 3, column }
    table.insert(readers[side], { at = #columns, read = read })
  end
  run.columns = columns

  local rows = {}
  local function listen(side, bit, filter)
    run:listen("frame", function(pinfo)
      local number, _, ns = sharkstat.moment(pinfo)
      local row = rows[#rows]
      if not row or row[1] ~= number then
        row = { number, ns, 0 }
        rows[#rows + 1] = row
      end
      row[3] = row[3] + bit
      for _, value in ipairs(readers[side]) do row[value.at] = value.read() end
    end, filter)
  end
  listen("request", 1, lines[1])
  listen("response", 2, lines[2])

  return function()
    for _, row in ipairs(rows) do run:row(row) end
  end
end

sharkstat.register { name = "joined", z_name = "sharkstat,joined", title = "Requests and responses", columns = {}, start = start }
