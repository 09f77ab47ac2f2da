-- tshark 4.0 gives one stream number to connections of the same addresses and ports in several VLANs; later versions do not.
-- Here it is told, and connections are told apart by their VLAN, too.

local sharkstat = require "sharkstat"

local vlans = {}

local MANY = 2 ^ 40 -- there are fewer streams

-- For a run that counts streams: a function that gives, for a packet's stream number, what tells the connection in its
-- VLAN; and a table that has true for each stream number that stands for several. Nil where tshark itself tells them apart.
-- `means` says in the run's remark what that does to its numbers.
function vlans.keys(run, means)
  if sharkstat.version() >= 4.2 then return nil, {} end
  local ids, first_of, mixed, mixtures = sharkstat.field "vlan.id", {}, {}, 0
  run:remark(function()
    if mixtures == 0 then return nil end
    return ("tshark %.1f takes connections of the same addresses and ports in several VLANs for one (%.0f here): %s"):format(
      sharkstat.version(), mixtures, means)
  end)
  return function(stream)
    local vlan = 0
    for _, found in ipairs { ids() } do vlan = found.value end
    local first = first_of[stream]
    if not first then
      first_of[stream] = vlan
    elseif first ~= vlan then
      if not mixed[stream] then mixed[stream], mixtures = true, mixtures + 1 end
      return stream + (vlan + 1) * MANY
    end
    return stream
  end, mixed
end

-- For a run that does not tell them apart: its remark says that. `tap` is "tcp" or "udp".
function vlans.watch(run, tap)
  local key_of = vlans.keys(run, "they are counted as one")
  if not key_of then return end
  local streams = sharkstat.field(tap .. ".stream")
  run:listen("frame", function()
    local stream
    for _, found in ipairs { streams() } do stream = found.value end
    if stream then key_of(stream) end
  end, "vlan && " .. tap .. " && !icmp && !icmpv6")
end

return vlans
