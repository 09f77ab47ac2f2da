-- name: links
-- title: Link types
-- description: On what kinds of links was this captured? Packets and bytes by the lowest protocol of each.
-- column: link text key; as tshark calls it: `eth`, `sll`, `wlan`, `ip` where there is no link layer
-- column: packets integer sum packets
-- column: bytes integer sum bytes
-- section: 50 rows=0
-- sort: bytes descending, link
-- field: frame.protocols
-- layer: transport
-- order: any

package.path = (__DIR__ or debug.getinfo(1, "S").source:match("@(.*[/\\])")) .. "?.lua;" .. package.path
local sharkstat = require "sharkstat"

local moment = sharkstat.moment
local MOST_PATHS = 10000

sharkstat.tap(__FILE__, function(run)
  local field = sharkstat.field "frame.protocols"
  local links, order = {}, {}
  local by_path, paths = {}, 0

  local function link_of(path)
    local name = path:match("^[^:]+") or path
    if not links[name] then
      links[name] = { name, 0, 0 }
      order[#order + 1] = links[name]
    end
    if paths == MOST_PATHS then by_path, paths = {}, 0 end
    by_path[path], paths = links[name], paths + 1
    return links[name]
  end

  run:listen("frame", function(pinfo)
    local path = field().value
    local link = by_path[path] or link_of(path)
    local _, length = moment(pinfo)
    link[2], link[3] = link[2] + 1, link[3] + length
  end)

  return function()
    for _, link in ipairs(order) do run:row { link[1], link[2], link[3] } end
  end
end)
