-- name: dns,slow
-- title: Slow DNS answers
-- description: Which names took long to resolve?
--     Answers that took longer than `over`, by name.
-- parameter: over duration 100us what is slow
-- column: name text key
-- column: answers integer sum
-- column: total_time duration sum seconds hidden
-- column: mean_time duration total_time/answers seconds; the time from query to answer
-- sort: answers descending, name
-- field: dns.qry.name
-- field: dns.time

local sharkstat = require "sharkstat"

sharkstat.tap(__FILE__, function(run)
  local names, times = sharkstat.field "dns.qry.name", sharkstat.field "dns.time"
  local rows = {}
  run:listen("frame", function()
    local took = sharkstat.nanoseconds(times().value)
    if took <= run.parameters.over then return end
    local name = names().value
    local row = rows[name]
    if not row then
      row = { name, 0, 0 }
      rows[name] = row
    end
    row[2], row[3] = row[2] + 1, sharkstat.plus(row[3], took)
  end, "dns.time and dns.qry.name")
  return function()
    for _, row in pairs(rows) do run:row(row) end
  end
end)
