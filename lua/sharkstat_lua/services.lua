-- Which end of a conversation is the server, and what its port is called, as far as ports can tell.

local services = {}

-- What people call the ports that servers listen on; tshark itself names ports only where it resolves (-N t).
local NAMES = {
  [20] = "ftp-data", [21] = "ftp", [22] = "ssh", [23] = "telnet", [25] = "smtp", [43] = "whois", [49] = "tacacs",
  [53] = "dns", [67] = "dhcp", [68] = "dhcp", [69] = "tftp", [80] = "http", [88] = "kerberos", [110] = "pop3",
  [111] = "rpcbind", [123] = "ntp", [135] = "epmap", [137] = "netbios-ns", [138] = "netbios-dgm",
  [139] = "netbios-ssn", [143] = "imap", [161] = "snmp", [162] = "snmptrap", [179] = "bgp", [389] = "ldap",
  [443] = "https", [445] = "smb", [464] = "kpasswd", [465] = "smtps", [500] = "ike", [502] = "modbus",
  [514] = "syslog", [515] = "printer", [546] = "dhcpv6", [547] = "dhcpv6", [548] = "afp", [554] = "rtsp",
  [587] = "submission", [623] = "ipmi", [631] = "ipp", [636] = "ldaps", [646] = "ldp", [830] = "netconf",
  [853] = "dns-tls", [873] = "rsync", [989] = "ftps-data", [990] = "ftps", [993] = "imaps", [995] = "pop3s",
  [1080] = "socks", [1194] = "openvpn", [1433] = "ms-sql", [1521] = "oracle", [1701] = "l2tp", [1719] = "h323-ras",
  [1720] = "h323", [1723] = "pptp", [1812] = "radius", [1813] = "radius-acct", [1883] = "mqtt", [1900] = "ssdp",
  [2049] = "nfs", [2055] = "netflow", [2181] = "zookeeper", [2375] = "docker", [2376] = "docker-tls",
  [2379] = "etcd", [2380] = "etcd-peer", [3128] = "proxy", [3260] = "iscsi", [3268] = "ldap-gc", [3306] = "mysql",
  [3389] = "rdp", [3478] = "stun", [3702] = "ws-discovery", [4500] = "ipsec-nat-t", [4739] = "ipfix",
  [4789] = "vxlan", [5004] = "rtp", [5060] = "sip", [5061] = "sips", [5222] = "xmpp-client", [5269] = "xmpp-server",
  [5353] = "mdns", [5355] = "llmnr", [5432] = "postgresql", [5601] = "kibana", [5671] = "amqps", [5672] = "amqp",
  [5683] = "coap", [5900] = "vnc", [5985] = "winrm", [5986] = "winrm-https", [6081] = "geneve", [6343] = "sflow",
  [6379] = "redis", [6443] = "kubernetes", [6667] = "irc", [8080] = "http-alt", [8443] = "https-alt",
  [8883] = "mqtts", [9042] = "cassandra", [9090] = "prometheus", [9092] = "kafka", [9100] = "jetdirect",
  [9200] = "elasticsearch", [9300] = "elasticsearch", [10050] = "zabbix-agent", [10051] = "zabbix",
  [10250] = "kubelet", [11211] = "memcached", [27017] = "mongodb", [51820] = "wireguard",
}

-- Clients get their ports from here on (RFC 6335), and on Linux from a good deal below.
local DYNAMIC, DYNAMIC_ON_LINUX = 49152, 32768

-- The name of a port; nil where it has none here.
function services.name(port) return NAMES[port] end

-- Whether the second of two ports is the server's rather than the first: the one with a name, and then the lower one.
-- True, false, or nil where neither tells.
function services.second_serves(first, second)
  local first_known, second_known = NAMES[first] ~= nil, NAMES[second] ~= nil
  if first_known ~= second_known then return second_known end
  if first == second or (first >= DYNAMIC_ON_LINUX and second >= DYNAMIC_ON_LINUX) then return nil end
  return second < first
end

-- The port by which a service is counted, of two: that with a name, and then the lower one; nil where nobody
-- registers a service at either.
function services.port(first, second)
  local first_known, second_known = NAMES[first] ~= nil, NAMES[second] ~= nil
  if first_known ~= second_known then return first_known and first or second end
  local lower = first < second and first or second
  return (lower < DYNAMIC or first_known) and lower or nil
end

return services
