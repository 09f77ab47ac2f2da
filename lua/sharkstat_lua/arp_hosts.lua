-- name: arp,hosts
-- title: ARP hosts
-- description: Which addresses are on this network, which MAC address claims each, and is one claimed by several?
--     One row per IPv4 address, with the ARP packets sent from it and the requests for it. A request for the sender's own
--     address is an announcement (gratuitous ARP). A request without a sender address is a probe, claims nothing, and
--     counts in the row of the address it asks for. Every ARP packet counts once as sent: `requests`, `replies`, `probes`
--     and `other` (RARP, InARP, addresses other than IPv4; their row has no address) add up to all ARP packets.
-- parameter: max integer 100000 maximum number of rows; further addresses share the row (other)
-- split: hosts
-- column: address address key
-- column: macs set union ; MAC addresses that claimed the address, at most 100
-- column: requests integer sum packets ; sent from the address
-- column: replies integer sum packets ; sent from the address
-- column: gratuitous integer sum packets ; requests and replies that announce the address itself
-- column: probes integer sum packets ; probes whether the address is free
-- column: other integer sum packets
-- column: asked_for integer sum packets ; requests of other hosts for the address
-- column: first_seen time min ; first packet sent from the address
-- column: last_seen time max ; last packet sent from the address
-- section: 840 rows=0
-- sort: address
-- field: arp.opcode
-- field: arp.src.hw_mac
-- field: arp.src.proto_ipv4
-- field: arp.dst.proto_ipv4
-- field: arp.isgratuitous
-- layer: transport
-- order: any

package.path = (__DIR__ or debug.getinfo(1, "S").source:match("@(.*[/\\])")) .. "?.lua;" .. package.path
local sharkstat = require "sharkstat"
local rows = require "rows"
local layers = require "layers"

local relative_ns, digits = sharkstat.relative_ns, sharkstat.digits

local REQUEST, REPLY = 1, 2
local NOBODY = "0.0.0.0"
local NO_ADDRESS = {}

sharkstat.tap(__FILE__, function(run)
  local opcodes, macs = sharkstat.field "arp.opcode", sharkstat.field "arp.src.hw_mac"
  local sources, targets = sharkstat.field "arp.src.proto_ipv4", sharkstat.field "arp.dst.proto_ipv4"
  local announced = sharkstat.field "arp.isgratuitous"

  local hosts = rows.new(run, function(address)
    if address == NO_ADDRESS then
      address = nil
    else
      address = address or sharkstat.OTHER
    end
    return {
      address = address, macs = {}, requests = 0, replies = 0, gratuitous = 0, probes = 0, other = 0, asked_for = 0,
    }
  end)

  run:listen("frame", function(pinfo)
    local opcode, source, target = opcodes(), sources(), targets()
    opcode = opcode and opcode.value
    local from, to = source and digits(source), target and digits(target)
    local plain = (opcode == REQUEST or opcode == REPLY) and from
    local probe = plain and from == NOBODY and opcode == REQUEST and to
    local row = hosts:at(probe or from or NO_ADDRESS)
    local time = relative_ns(pinfo)
    if not row.first or time < row.first then row.first = time end
    if not row.last or time > row.last then row.last = time end
    if probe then
      row.probes = row.probes + 1
      return
    end
    if not plain then
      row.other = row.other + 1
      return
    end
    local mac = macs()
    if mac and from ~= NOBODY then rows.add(row.macs, digits(mac)) end
    if announced() then row.gratuitous = row.gratuitous + 1 end
    if opcode == REPLY then
      row.replies = row.replies + 1
      return
    end
    row.requests = row.requests + 1
    if to and to ~= from then
      local asked = hosts:at(to)
      asked.asked_for = asked.asked_for + 1
    end
  end, "arp", function(path) return layers.has(path, "arp") end)

  return function()
    for row in hosts:each() do
      run:row {
        row.address, row.macs, row.requests, row.replies, row.gratuitous, row.probes, row.other, row.asked_for, row.first,
        row.last,
      }
    end
  end
end)
