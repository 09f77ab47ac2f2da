-- name: my,statistic
-- title: My statistic
-- description: How often each DNS name was queried and answered.
-- column: name text key
-- column: queries integer sum packets
-- column: answers integer sum packets
-- column: answered number answers/queries percent
-- sort: queries descending, name
-- field: dns.qry.name
-- field: dns.flags.response

local sharkstat = require "sharkstat"

sharkstat.tap(__FILE__, function(run)
  run.filter = run.arguments
  local name_field, response_field = sharkstat.field "dns.qry.name", sharkstat.field "dns.flags.response"
  local queries, answers = {}, {}

  run:listen("frame", function()
    local name, response = name_field(), response_field()
    if not (name and response) then return end  -- a truncated or malicious packet may lack any field
    local text = name.value
    local counts = response.value and answers or queries
    counts[text] = (counts[text] or 0) + 1
    queries[text] = queries[text] or 0
  end, "dns")

  return function()
    for name, count in pairs(queries) do run:row { name, count, answers[name] or 0 } end
  end
end)
