-- The most frequent values: counts of all of them, or of many the Misra-Gries summary.
-- core/sharkstat/tables/frequent.py says what that is, and makes the same ones.
--
--     frequent.add(row.hosts, host)   -- row.hosts is {} at first

local exact = require "sharkstat_exact"

local frequent = {}

local KEPT = 1000
local MOST = 2 * KEPT

local Frequent = {}

-- Takes from each count what the first beyond the largest has, so that those remain which are larger.
local function shrink(known)
  local sizes = {}
  for _, count in pairs(known.counts) do sizes[#sizes + 1] = count end
  table.sort(sizes, function(one, other) return one > other end)
  local less, counts, size = sizes[KEPT + 1], {}, 0
  for value, count in pairs(known.counts) do
    if count > less then counts[value], size = count - less, size + 1 end
  end
  known.counts, known.size, known.less = counts, size, known.less + less
end

function frequent.add(known, value)
  local counts = known.counts
  if not counts then
    setmetatable(known, Frequent)
    counts = {}
    known.counts, known.size, known.less = counts, 0, 0
  end
  local count = counts[value]
  counts[value] = (count or 0) + 1
  if count then return end
  known.size = known.size + 1
  if known.size > MOST then shrink(known) end
end

function Frequent.texts(known)
  local texts = {}
  for value, count in pairs(known.counts) do
    texts[#texts + 1] = exact.integer(count) .. ":" .. (type(value) == "string" and value or exact.escape(value))
  end
  if known.less > 0 then texts[#texts + 1] = "error:" .. exact.integer(known.less) end
  return texts
end

return frequent
