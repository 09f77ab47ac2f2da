-- Packets of which only the beginning was captured (a snapshot length). tshark 4.0 announces no header that is cut in its
-- options, though all that most taps want of it is there: so for such a packet a stand-in is announced, made of fields.
-- What cannot be told even so is counted in run.skipped.
--
-- The fields cost every packet something, so the host asks for all this (sharkstat.cut) only where packets are cut.

local NOT_QUOTED = " && !icmp && !icmpv6"
local SHORT = "_ws.short" .. NOT_QUOTED
local NETWORK = "(ip.dst || ipv6.dst || arp)"

-- What stands in for the tap's info, by its keys; `announced` picks the packets whose header can be told, `lost` those in
-- which it may be, but cannot be told.
local STANDINS = {
  tcp = {
    announced = SHORT .. " && tcp.stream",
    lost = "!tcp.stream && (tcp || ip.proto == 6 || ipv6.nxt == 6 || !" .. NETWORK .. ")" .. NOT_QUOTED,
    fields = {
      th_stream = "tcp.stream", th_sport = "tcp.srcport", th_dport = "tcp.dstport", th_seq = "tcp.seq",
      th_ack = "tcp.ack", th_flags = "tcp.flags", th_seglen = "tcp.len", th_win = "tcp.window_size_value",
    },
  },
  udp = { lost = "!udp.stream && (udp || ip.proto == 17 || ipv6.nxt == 17 || !" .. NETWORK .. ")" .. NOT_QUOTED },
  ip = { lost = SHORT .. " && !" .. NETWORK },
  ipv6 = { announced = SHORT .. " && ipv6.dst", lost = SHORT .. " && !" .. NETWORK },
}

-- HEADLESS: packets whose network header is not whole.
local cut = { HEADLESS = SHORT .. " && !" .. NETWORK }

-- What a tunnel carries, and below which nothing was in sight: its packets' own addresses are not known.
local CARRIED = {
  eth = true, ethertype = true, ip = true, ipv6 = true, gre = true, vxlan = true, geneve = true, gtp = true, l2tp = true,
  ppp = true, pppoes = true, mpls = true, vlan = true, ieee8021ad = true, nsh = true, erspan = true, llc = true,
}

-- UDP ports of tunnels: of GTP, VXLAN, Geneve, L2TP, LISP, Teredo, GRE and MPLS.
local TUNNEL_PORTS = {
  [2152] = true, [4789] = true, [8472] = true, [6081] = true, [1701] = true, [4341] = true, [3544] = true, [4754] = true,
  [6635] = true,
}

-- What IP carries that may be a tunnel, where nothing of it was captured: IP in IP, UDP, IPv6, GRE, EtherIP, MPLS.
local TUNNEL_PROTOCOLS = { [4] = true, [17] = true, [41] = true, [47] = true, [97] = true, [137] = true }

-- Whether a packet with these protocols that is cut in a header is so in a tunnel: behind a network header, or where its
-- datagram's ports are not in sight. `source` and `target` are those, `carried` is the protocol that IP carries; nil if
-- unknown.
function cut.in_tunnel(protocols, source, target, carried)
  local carriers, last = (":" .. protocols):match("^(.*:)([^:]+)$")
  if last == "udp" then return not (source and target) or TUNNEL_PORTS[source] or TUNNEL_PORTS[target] or false end
  if (last == "ip" or last == "ipv6") and TUNNEL_PROTOCOLS[carried] then return true end
  return CARRIED[last] and carriers:find(":ipv?6?:") ~= nil
end

-- Cut in a header, with a network header before.
cut.BEHIND_NETWORK = SHORT .. " && " .. NETWORK
-- Of the packets that have a network header: the transport header is not in sight.
cut.WITHOUT_PORTS = "(" .. STANDINS.tcp.lost .. " || " .. STANDINS.udp.lost .. ")"

-- Calls `count` for each packet of a run that is cut in TCP's options: tshark remarks nothing on it (tcp.analysis).
function cut.unremarked(sharkstat, run, count)
  local port, size = sharkstat.field "tcp.srcport", sharkstat.field "tcp.hdr_len"
  run:listen("frame", function(pinfo)
    local first, header = port(), size()
    if header and first.offset + header.value > pinfo.caplen then count() end
  end, SHORT .. " && tcp.stream")
end

-- Whether a tap announces headers that may be cut.
function cut.concerns(tap) return STANDINS[tap] ~= nil end

-- Listens for a run to what its listener of `tap` is not told. `listen(filter, packet)` listens to whole packets; gives
-- what is to be called for each header that the tap announces, instead of `packet`.
function cut.listen(sharkstat, run, tap, packet, listen)
  local standin, last = STANDINS[tap], nil
  run.skipped = run.skipped or 0
  local extractors = {}
  for key, name in pairs(standin.fields or {}) do extractors[key] = sharkstat.field(name) end
  if standin.announced then
    listen(standin.announced, function(pinfo, tvb, _, number, ...)
      if last == number then return end
      local info = { ip_src = pinfo.src, ip_dst = pinfo.dst }
      for key, extractor in pairs(extractors) do
        local found = extractor()
        info[key] = found and found.value or 0
      end
      packet(pinfo, tvb, info, number, ...)
    end)
  end
  listen(standin.lost, function(pinfo)
    if pinfo.caplen < pinfo.len then run.skipped = run.skipped + 1 end
  end)
  return function(pinfo, tvb, info, number, ...)
    last = number
    packet(pinfo, tvb, info, number, ...)
  end
end

---------------------------------------------------------------------------------------------------
-- What the protocols above lose

-- So much of a payload tells tshark which protocol it is, or that it is none that it knows; the first line of HTTP may be
-- longer.
local TELLING = 12
local A, Z = 0x41, 0x5a

local function last(field)
  local first, second = field()
  if second then return select(-1, field()) end
  return first
end

-- A function that says of a cut packet of a connection whether it lost any payload, and whether what is left of that is
-- enough for tshark to tell the protocol.
function cut.payload_reader(sharkstat)
  local length, of_tcp, of_udp =
    sharkstat.field "tcp.len", sharkstat.field "tcp.payload", sharkstat.field "udp.payload"
  return function(pinfo, tvb, path)
    local payload
    if path.transport == "tcp" then
      local whole = last(length)
      if whole and whole.value == 0 then return false, true end
      payload = of_tcp()
    elseif path.transport == "udp" then
      payload = last(of_udp)
    end
    if not payload or payload.len < TELLING then return true, false end
    local first = payload.offset < tvb:len() and tvb(payload.offset, 1):uint() or A
    return true, not (first >= A and first <= Z) or payload.len > 1000
  end
end

-- Packets that carry others, which are then not in sight.
local TUNNELS = {
  gtp = true, vxlan = true, geneve = true, gre = true, l2tp = true, teredo = true, socks = true, nsh = true, openvpn = true,
}
-- Above these nothing was in sight.
local BELOW = {
  eth = true, ethertype = true, ip = true, ipv6 = true, vlan = true, sll = true, ppp = true, mpls = true, data = true,
}

-- What these carry cannot be read without keys (sharkstat.has_keys), and what is cut not even with them.
local OPAQUE = { tls = true, dtls = true, ssh = true, esp = true, wg = true }

local CUT = "frame.cap_len < frame.len"

-- The connections of the packets that a filter takes: which of them tshark knows, and what its packets are to the runs that
-- ask. A packet is looked at once for all of them.
local watchers = {}
local function watcher_of(sharkstat, filter)
  local key = filter or ""
  if watchers[key] then return watchers[key] end
  local watcher = { known = {}, judges = {} }
  watchers[key] = watcher
  local path_of = require("layers").reader()
  local numbers = { tcp = sharkstat.field "tcp.stream", udp = sharkstat.field "udp.stream" }

  -- The path of a packet, the number of its stream, and what tells its connection from all others; nil where it has none.
  function watcher.place(number, path)
    path = path or path_of(number)
    local field = path.transport and numbers[path.transport]
    local stream = field and last(field)
    stream = stream and stream.value
    return path, stream, stream and 2 * stream + (path.transport == "tcp" and 1 or 0)
  end

  -- By path: whether it shows a protocol, and the connections that it belongs to of each run that reads it.
  local of_path = setmetatable({}, { __mode = "k" })
  local function marks_of(path)
    local marks = { path.protocol or path.carrier or false }
    for _, judge in ipairs(watcher.judges) do
      if judge.reads(path) then marks[#marks + 1] = judge.has end
    end
    if marks[1] then marks[1] = watcher.known else table.remove(marks, 1) end
    of_path[path] = marks
    return marks
  end

  sharkstat.share("frame", filter, function(pinfo, tvb, _, number, length, _, path)
    path = path or path_of(number)
    local marks, is_cut = of_path[path] or marks_of(path), pinfo.caplen < length
    if #marks == 0 and not is_cut then return end
    local _, stream, connection = watcher.place(number, path)
    if connection then
      for index = 1, #marks do marks[index][connection] = true end
    end
    if not is_cut then return end
    for _, judge in ipairs(watcher.judges) do
      if not judge.whole then judge.cut(pinfo, tvb, path, stream, connection) end
    end
  end)
  return watcher
end

-- Counts the cut packets in which a run may have lost something that it reads, of those that `filter` takes. `reads` has the
-- protocols that it reads; `whole`, a filter for packets that have all of it, though cut; and `needs(stream)`, which says
-- whether anything of that TCP connection is needed still. A packet of another protocol lost nothing, unless its connection
-- has one of those, too; one of an unknown protocol may be of them. Instead of protocols, `opaque` says that it reads all but
-- what is encrypted. Gives a function that gives the number.
function cut.count_lost(sharkstat, reads, filter)
  local watcher, lost_payload = watcher_of(sharkstat, filter), cut.payload_reader(sharkstat)
  local known, lost = watcher.known, 0
  local has = {}  -- connections with one of the protocols
  local other, unknown = {}, {} -- how many cut packets they have

  local function reads_any(path)
    local protocol = path.protocol or path.carrier
    if reads.opaque then return protocol and (sharkstat.has_keys or not OPAQUE[protocol]) end
    for _, name in ipairs(reads.protocols) do
      if path.holds[name] or path.protocol == name then return true end
    end
    return false
  end

  local function judge(pinfo, tvb, path, stream, connection)
    local its_own = reads_any(path)
    if not connection then
      if its_own or path.transport or path.fragment or BELOW[path.protocol] then lost = lost + 1 end
      return
    end
    local any, told = lost_payload(pinfo, tvb, path)
    if not any or (path.transport == "tcp" and reads.needs and not reads.needs(stream)) then return end
    local decrypted = sharkstat.has_keys and (path.holds.tls or path.holds.quic)
    if its_own or TUNNELS[path.protocol] or decrypted then
      lost = lost + 1
    elseif path.protocol or path.carrier or told then
      other[connection] = (other[connection] or 0) + 1
    else
      unknown[connection] = (unknown[connection] or 0) + 1
    end
  end

  watcher.judges[#watcher.judges + 1] = { reads = reads_any, has = has, cut = judge, whole = reads.whole }
  if reads.whole then
    sharkstat.share("frame", sharkstat.all_of(filter, CUT, "!(" .. reads.whole .. ")"), function(pinfo, tvb, _, number, _, _, path)
      judge(pinfo, tvb, watcher.place(number, path))
    end)
  end
  return function()
    local sum = lost
    for key, count in pairs(other) do
      if has[key] then sum = sum + count end
    end
    for key, count in pairs(unknown) do
      if has[key] or not known[key] then sum = sum + count end
    end
    return sum
  end
end

return cut
