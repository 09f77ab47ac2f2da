-- name: mtu,paths
-- title: Packet sizes and MTU by path
-- description: The largest packets from each host to each other, how many came in fragments or must not be fragmented, and
--     how often a router said that one was too big, and what it would have taken. Of packets in packets, the outer ones.
-- column: source address key
-- column: destination address key
-- column: packets integer sum packets
-- column: largest integer max bytes; the largest IP packet, or fragment, with its header
-- column: fragments integer sum packets
-- column: whole_only integer sum packets; IPv4 packets that must not be fragmented
-- column: too_big integer sum packets; ICMP messages that one on this path was too big
-- column: mtu integer min bytes; the least that these messages announced
-- sort: too_big descending, largest descending, source, destination
-- field: ip.src
-- field: ip.dst
-- field: ip.len
-- field: ip.flags.mf
-- field: ip.flags.df
-- field: ip.frag_offset
-- field: icmp.mtu
-- field: ipv6.src
-- field: ipv6.dst
-- field: ipv6.plen
-- field: ipv6.fraghdr.offset
-- field: icmpv6.mtu

local sharkstat = require "sharkstat"

local IPV6_HEADER = 40
local PACKETS, LARGEST, FRAGMENTS, WHOLE_ONLY, TOO_BIG, MTU = 1, 2, 3, 4, 5, 6

-- The path between two address fields: a table of its own for each.
local function path_between(paths, source, destination)
  local from = sharkstat.digits(source)
  local to = sharkstat.digits(destination)
  local by_source = paths[from]
  if not by_source then
    by_source = {}
    paths[from] = by_source
  end
  local path = by_source[to]
  if not path then
    path = { 0, nil, 0, 0, 0, nil }
    by_source[to] = path
  end
  return path
end

sharkstat.tap(__FILE__, function(run)
  run.filter = run.arguments
  local field = sharkstat.field
  local v4 = {
    source = field "ip.src", destination = field "ip.dst", length = field "ip.len", mtu = field "icmp.mtu",
  }
  local v6 = {
    source = field "ipv6.src", destination = field "ipv6.dst", length = field "ipv6.plen", mtu = field "icmpv6.mtu",
  }
  local more, whole_only, offset = field "ip.flags.mf", field "ip.flags.df", field "ip.frag_offset"
  local fragment = field "ipv6.fraghdr.offset"
  local paths = {}

  run:listen("frame", function()
    local first4, first6 = v4.source(), v6.source()
    -- Where there are both, one is inside the other.
    local outer = (first4 and first6) and (first4.offset < first6.offset and v4 or v6) or first4 and v4 or v6
    local source, destination, length = outer.source(), outer.destination(), outer.length()
    if not (source and destination and length) then return end  -- cut short
    local path = path_between(paths, source, destination)
    path[PACKETS] = path[PACKETS] + 1
    local size, fragmented
    if outer == v4 then
      local flag, at, whole = more(), offset(), whole_only()
      size = length.value
      fragmented = (flag and flag.value) or (at and at.value > 0)
      if whole and whole.value then path[WHOLE_ONLY] = path[WHOLE_ONLY] + 1 end
    else
      size = length.value + IPV6_HEADER
      fragmented = fragment()
    end
    if fragmented then path[FRAGMENTS] = path[FRAGMENTS] + 1 end
    if not path[LARGEST] or size > path[LARGEST] then path[LARGEST] = size end

    local announced = outer.mtu()
    if not announced then return end
    -- The message quotes the header of the packet that was too big.
    local _, quoted_source = outer.source()
    local _, quoted_destination = outer.destination()
    if not (quoted_source and quoted_destination) then return end
    local blocked = path_between(paths, quoted_source, quoted_destination)
    blocked[TOO_BIG] = blocked[TOO_BIG] + 1
    if not blocked[MTU] or announced.value < blocked[MTU] then blocked[MTU] = announced.value end
  end, "ip || ipv6")

  return function()
    for source, by_source in pairs(paths) do
      for destination, path in pairs(by_source) do
        run:row {
          source, destination, path[PACKETS], path[LARGEST], path[FRAGMENTS], path[WHOLE_ONLY], path[TOO_BIG], path[MTU],
        }
      end
    end
  end
end)
