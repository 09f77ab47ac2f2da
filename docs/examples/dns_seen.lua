-- dns,seen[,FILTER]: which names DNS packets are about.

local sharkstat = require "sharkstat"

sharkstat.register {
  name = "dns,seen",
  title = "Names in DNS packets",
  columns = { { "name", "text" }, { "count", "integer" } },
  start = function(run)
    run.filter = run.arguments ~= "" and run.arguments or "dns"
    local name_field = sharkstat.field "dns.qry.name"
    local counts, order = {}, {}
    run:listen("frame", function()
      for _, found in ipairs { name_field() } do
        local name = found.value
        if not counts[name] then order[#order + 1] = name end
        counts[name] = (counts[name] or 0) + 1
      end
    end)
    return function() -- called once, after the last packet
      for _, name in ipairs(order) do run:row { name, counts[name] } end
    end
  end,
}
