-- name: dns,asked
-- title: Names asked for
-- usage: dns,asked[,FILTER]
-- description: How often each name was asked for, in DNS queries.
-- column: name text key
-- column: count integer sum packets
-- field: dns.qry.name

local sharkstat = require "sharkstat"

sharkstat.tap(__FILE__, function(run)
  run.filter = run.arguments
  local asked = sharkstat.field "dns.qry.name"
  local counts = {}
  run:listen("frame", function()
    local name = asked().value
    counts[name] = (counts[name] or 0) + 1
  end, "dns.flags.response == 0")
  return function()
    for name, count in pairs(counts) do run:row { name, count } end
  end
end)
