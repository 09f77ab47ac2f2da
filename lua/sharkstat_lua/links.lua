-- name: links
-- title: Link types
-- description: On which types of links was this captured? Packets and bytes by lowest protocol.
-- column: link text key; as named by tshark: `eth`, `sll`, `wlan`; `ip` without a link layer
-- column: packets integer sum packets
-- column: bytes integer sum bytes
-- section: 50 rows=0
-- sort: bytes descending, link
-- field: frame.protocols
-- layer: transport
-- order: any

package.path = (__DIR__ or debug.getinfo(1, "S").source:match("@(.*[/\\])")) .. "?.lua;" .. package.path
local sharkstat = require "sharkstat"
local layers = require "layers"

sharkstat.tap(__FILE__, function(run)
  local path_of = layers.reader()
  local links, order = {}, {}

  run:listen("frame", function(_, _, _, number, length, _, path)
    local name = (path or path_of(number)).link
    local link = links[name]
    if not link then
      link = { name, 0, 0 }
      links[name], order[#order + 1] = link, link
    end
    link[2], link[3] = link[2] + 1, link[3] + length
  end)

  return function()
    for _, link in ipairs(order) do run:row { link[1], link[2], link[3] } end
  end
end)
