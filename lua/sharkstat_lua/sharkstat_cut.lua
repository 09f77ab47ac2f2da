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
    listen(standin.announced, function(pinfo, tvb)
      if last == pinfo.number then return end
      local info = { ip_src = pinfo.src, ip_dst = pinfo.dst }
      for key, extractor in pairs(extractors) do
        local found = extractor()
        info[key] = found and found.value or 0
      end
      packet(pinfo, tvb, info)
    end)
  end
  listen(standin.lost, function(pinfo)
    if pinfo.caplen < pinfo.len then run.skipped = run.skipped + 1 end
  end)
  return function(pinfo, tvb, info)
    last = pinfo.number
    packet(pinfo, tvb, info)
  end
end

return cut
