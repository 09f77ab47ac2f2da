-- name: dhcp,leases
-- title: DHCP leases
-- description: Which client got which address from which server, and who was refused one?
--     One row per DHCPv4 client, identified by its MAC address, with the messages from and to it. Messages captured
--     twice, such as a relay's copies, count twice. `addresses` and `servers` are taken from ACKs.
-- parameter: max integer 100000 maximum number of rows; further clients share the row (other)
-- column: client_mac address key ; empty if the client has none
-- column: hostnames set union ; host names sent by the client
-- column: addresses set union ; addresses assigned to it (ACK)
-- column: servers set union ; servers that assigned them
-- column: lease_time duration last seconds ; lease time in the last ACK
-- column: discover integer sum packets
-- column: offer integer sum packets
-- column: request integer sum packets
-- column: ack integer sum packets
-- column: nak integer sum packets ; the server refused the request
-- column: decline integer sum packets ; the client found the address in use
-- column: release integer sum packets
-- column: inform integer sum packets
-- column: other integer sum packets ; BOOTP and other message types
-- column: first_seen time min
-- column: last_seen time max
-- section: 850 rows=0
-- finding: nak/request warning=0.01 bad=0.5 worst=client_mac DHCP requests refused
-- finding: decline/ack warning=0.001 bad=0.5 worst=client_mac DHCP addresses declined as already in use
-- sort: first_seen, client_mac
-- field: dhcp.hw.mac_addr
-- field: dhcp.option.dhcp
-- field: dhcp.option.hostname
-- field: dhcp.ip.your
-- field: dhcp.ip.client
-- field: dhcp.option.dhcp_server_id
-- field: dhcp.option.ip_address_lease_time
-- layer: messages

package.path = (__DIR__ or debug.getinfo(1, "S").source:match("@(.*[/\\])")) .. "?.lua;" .. package.path
local sharkstat = require "sharkstat"
local rows = require "rows"
local layers = require "layers"

local relative_ns, digits = sharkstat.relative_ns, sharkstat.digits

local KINDS = { "discover", "offer", "request", "decline", "ack", "nak", "release", "inform" }
local NOBODY = "0.0.0.0"
local NO_MAC = {}

sharkstat.tap(__FILE__, function(run)
  run.reads = { protocols = { "dhcp" } }
  local macs, kinds, hostnames =
    sharkstat.field "dhcp.hw.mac_addr", sharkstat.field "dhcp.option.dhcp", sharkstat.field "dhcp.option.hostname"
  local yours, clients = sharkstat.field "dhcp.ip.your", sharkstat.field "dhcp.ip.client"
  local servers, lease_times =
    sharkstat.field "dhcp.option.dhcp_server_id", sharkstat.field "dhcp.option.ip_address_lease_time"

  local leases = rows.new(run, function(mac)
    if mac == NO_MAC then
      mac = nil
    else
      mac = mac or sharkstat.OTHER
    end
    local row = { mac = mac, hostnames = {}, addresses = {}, servers = {}, other = 0 }
    for _, kind in ipairs(KINDS) do row[kind] = 0 end
    return row
  end)

  run:listen("frame", function(pinfo)
    local mac, kind = macs(), kinds()
    local row = leases:at(mac and digits(mac) or NO_MAC)
    kind = kind and KINDS[kind.value] or "other"
    row[kind] = row[kind] + 1
    local time = relative_ns(pinfo)
    if not row.first or time < row.first then row.first = time end
    if not row.last or time > row.last then row.last = time end
    if kind == "ack" then
      local address, server, lease_time = yours(), servers(), lease_times()
      address = address and digits(address)
      if address == NOBODY then address = digits(clients()) end  -- the answer to an inform
      if address and address ~= NOBODY then rows.add(row.addresses, address) end
      if server then rows.add(row.servers, digits(server)) end
      if lease_time then row.lease_time = ("%.0f000000000"):format(lease_time.value) end  -- above 2^53
    elseif kind ~= "offer" and kind ~= "nak" then
      local hostname = hostnames()
      if hostname then rows.add(row.hostnames, hostname.value) end
    end
  end, "dhcp && !icmp",  -- an error quotes what was said before
  function(path) return layers.has(path, "dhcp") and not layers.has(path, "icmp") end)

  return function()
    for row in leases:each() do
      local values = { row.mac, row.hostnames, row.addresses, row.servers, row.lease_time }
      for index, kind in ipairs { "discover", "offer", "request", "ack", "nak", "decline", "release", "inform", "other" } do
        values[5 + index] = row[kind]
      end
      values[15], values[16] = row.first, row.last
      run:row(values)
    end
  end
end)
