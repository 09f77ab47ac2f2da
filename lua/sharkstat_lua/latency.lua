-- name: latency
-- title: Response times
-- description: Which servers are slow to respond, and in which protocol?
--     The response times that tshark computes (dns.time, http.time, smb2.time, icmp.resptime, ...), by protocol and
--     server. The server is the sender of the packet with the response; a packet may have several responses. Since
--     tshark matches DNS by transaction ID only, a time may be wrong if a client reuses an ID before the answer;
--     `dns,names` also compares the names.
-- parameter: max integer 100000 maximum number of rows; further servers share the row `(other)`
-- column: protocol text key; from the name of the field with the time
-- column: server_address address key title=Server
-- column: server_port integer key title=Port; empty for protocols without ports
-- column: responses integer sum
-- column: min_time duration min seconds title=Min
-- column: mean_time duration total_time/responses seconds title=Mean
-- column: p50_time duration p50:times/min_time/max_time seconds title=p50
-- column: p95_time duration p95:times/min_time/max_time seconds title=p95
-- column: p99_time duration p99:times/min_time/max_time seconds title=p99
-- column: max_time duration max seconds title=Max
-- column: total_time duration sum seconds hidden
-- column: times set sketch hidden ; sketch of these times: p50, p95 and p99 are within 1 %, and exact for up to 100
-- section: 830 rows=0 columns=protocol,server_address,server_port,responses,mean_time,p95_time,max_time
-- sort: total_time descending, protocol, server_address, server_port
-- layer: messages

package.path = (__DIR__ or debug.getinfo(1, "S").source:match("@(.*[/\\])")) .. "?.lua;" .. package.path
local sharkstat = require "sharkstat"
local rows = require "rows"

local floor = math.floor

-- The fields that hold a response time, of all versions of tshark; those that this one has are read. Each is in the
-- packet with the response. Times between packets of a transfer (fc.time), to an acknowledgement, or of what
-- carries another protocol's times once more (transum) are not among them.
local NAMES = {
  "adwin.response_time", "afp.time", "afs.time", "aoe.time", "camel.srt.deltatime", "classicstun.time",
  "coap.response_time", "cops.response_time", "cql.response_time", "ctdb.time", "dbus.response_time", "dcerpc.time",
  "diameter.resp_time", "djiuav.response_time", "dns.time", "drda.etime", "enip.time", "fcp.time",
  "finger.response_time", "gryphon.response_time", "gtp.time", "gtpv2.response_time", "h225.ras.timedelta",
  "http.time", "http2.time", "icmp.resptime", "icmpv6.resptime", "imap.time", "ipmi.response_time",
  "ipp.response_time", "iscsi.time", "kerberos.time", "ldap.time", "mgcp.time", "mms.response_time",
  "modbus.response_time", "nbd.time", "ncp.time", "ndmp.time", "nvme-mi.response_time", "pana.response_time",
  "pfcp.response_time", "radius.time", "ros.time", "rpc.time", "rtpproxy.response_time", "sbus.response_time",
  "scsi.time", "sip.response-time", "skinny.response_time", "smb.time", "smb2.time", "snmp.time", "stun.time",
  "usb.time", "whois.response_time", "xmcp.time", "zabbix.time",
}
-- What a packet may hold beside protocols that have such a field (or their parts), without bringing one.
local TIMELESS, TIMED = {}, {}
for name in ([[arp bgp data data-text-lines db-lsp-disc dhcp dhcpv6 dtls eap eapol esp eth ethertype ftp ftp-data gquic gre hsrp icmp
  icmpv6 igmp image-gif image-jfif imf ip ipv6 json llc lldp mbtcp media mqtt nbns ntp ocsp openvpn ospf pkix1explicit pkix1implicit
  png pop quic rtcp rtp rtsp sdp sll smtp ssh stp syslog tcp tftp tls udp urlencoded-form vlan vnc vxlan websocket wg x509ce x509sat
  xml]]):gmatch("%S+") do
  TIMELESS[name] = true
end
for name in ("dns http http2 icmp icmpv6 imap modbus radius sip snmp stun"):gmatch("%S+") do TIMED[name] = true end
local SAME = { mdns = "dns", llmnr = "dns", ssdp = "http" }
local WITHOUT_PORTS = { icmp = true, icmpv6 = true, usb = true, aoe = true }

-- Nanoseconds. What is not kept as a time is a number of milliseconds.
local function nanoseconds(value)
  return type(value) == "number" and floor(value * 1e6 + 0.5) or sharkstat.nanoseconds(value)
end

sharkstat.tap(__FILE__, function(run)
  run.reads = { opaque = true }
  local fields, protocols, there = {}, {}, {}
  for _, name in ipairs(NAMES) do
    local fine, field = pcall(sharkstat.field, name)
    if fine then
      fields[#fields + 1], protocols[#protocols + 1], there[#there + 1] = field, name:match("^[^.]+"), name
    end
  end

  local servers = rows.new(run, function(protocol, address, port)
    return { protocol = protocol or sharkstat.OTHER, address = address, port = port }
  end)

  local function count(protocol, address, pinfo, value)
    local time = nanoseconds(value)
    if time < 0 then return end  -- the packets are out of order, and the host says so
    local port = not WITHOUT_PORTS[protocol] and pinfo.src_port or nil
    rows.time_in_sketch(servers:at(protocol, address, port), time)
  end

  -- Which of the fields a packet may have, by its path: all, where it holds a protocol that may bring any (it calls others
  -- that the path does not name).
  local all = {}
  for at = 1, #fields do all[at] = at end
  local function candidates(path)
    local names, found = {}, {}
    for name in path.text:gmatch("[^:]+") do
      name = SAME[name] or name
      names[name] = true
      if not TIMELESS[name] and not TIMED[name] then return all end
    end
    for at = 1, #fields do
      if names[protocols[at]] then found[#found + 1] = at end
    end
    return found
  end
  local of_path = setmetatable({}, { __mode = "k" })
  local function wants(path)
    local found = candidates(path)
    of_path[path] = found
    return #found > 0
  end

  run:listen("frame", function(pinfo, _, _, _, _, _, path)
    local address
    for _, at in ipairs(path and (of_path[path] or candidates(path)) or all) do
      if fields[at]() then
        address = address or run:address(pinfo.src)
        for _, found in ipairs { fields[at]() } do count(protocols[at], address, pinfo, found.value) end
      end
    end
  end, table.concat(there, " || "), wants)

  return function()
    for server in servers:each() do
      run:row {
        server.protocol, server.address, server.port, server.timed, server.least, server.most, server.time, server.times,
      }
    end
  end
end)
