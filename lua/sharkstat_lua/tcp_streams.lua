-- What the tcp taps (tcp_health.lua, tcp_servers.lua, tcp_connections.lua) keep of every TCP connection.
--
-- Connections are told apart by tshark's stream number. tshark gives one number to connections of the same ends in two
-- VLANs, and takes the segments of one for repetitions of the other's: there networks.lua tells them apart, and what was
-- sent again is told by the sequence numbers. The client is who sent the SYN; where no SYN was seen, server.lua tells, by
-- the ports and by who has more peers.

local sharkstat = require "sharkstat"
local rows = require "rows"
local networks = require "networks"
local server = require "server"

local elapsed, plus = sharkstat.elapsed, sharkstat.plus

local streams = {}

-- There may be many connections, so what each has is a list that is made in its full length: a table with names takes
-- three times the memory.
local PORT_A, PORT_B, A, B, START, STOP, STAGE = 1, 2, 3, 4, 5, 6, 7
local STREAM, ADDRESS_A, ADDRESS_B, CLIENT, ASKED_AT, ESTABLISHED_AT, SYN, OUTCOME = 8, 9, 10, 11, 12, 13, 14, 15
-- Of each of its two sides: what that side sent, and (the round-trip times) how long it took to acknowledge. From
-- ZERO_WINDOWS on there is nothing where there was none: most connections have none of them.
local PACKETS, BYTES, PAYLOAD, NEW, TOP = 1, 2, 3, 4, 5
local RTTS, RTT_TOTAL, RTT_MIN, RTT_MAX, FIN, ZERO_WINDOWS, RESETS = 6, 7, 8, 9, 10, 11, 12
local RETRANSMISSIONS, FAST, SPURIOUS, DUPLICATE_ACKS, OUT_OF_ORDER, LOST = 13, 14, 15, 16, 17, 18
local LAST_MEASURE = 18

-- The stages of the handshake.
local NOTHING, ASKED, ANSWERED, ESTABLISHED = 0, 1, 2, 3

local REMARKS = {
  [RETRANSMISSIONS] = "tcp.analysis.retransmission",
  [FAST] = "tcp.analysis.fast_retransmission",
  [SPURIOUS] = "tcp.analysis.spurious_retransmission",
  [DUPLICATE_ACKS] = "tcp.analysis.duplicate_ack",
  [OUT_OF_ORDER] = "tcp.analysis.out_of_order",
  [LOST] = "tcp.analysis.lost_segment",
  [ZERO_WINDOWS] = "tcp.analysis.zero_window",
}

local function new_side() return { 0, 0, 0, 0, false, 0, 0, false, false, false } end

local function tick(side, measure) side[measure] = (side[measure] or 0) + 1 end

-- Gaps in what was seen of one direction are kept up to this many; more are unusual, and then the oldest are given up.
local MOST_GAPS = 100
local HALF, WHOLE = 2 ^ 31, 2 ^ 32

-- How many bytes of a segment were not seen before. Sequence numbers are carried on beyond 2^32.
local function new_bytes(side, sequence, length)
  local top = side[TOP]
  if not top then
    side[TOP] = sequence + length
    return length
  end
  local ahead = (sequence - top) % WHOLE
  if ahead >= HALF then ahead = ahead - WHOLE end
  local from, to = top + ahead, top + ahead + length
  local gaps = side.gaps
  local fresh = 0
  if to > top then
    fresh = to - (from > top and from or top)
    side[TOP] = to
    if from > top then
      gaps = gaps or {}
      side.gaps = gaps
      if #gaps == MOST_GAPS then table.remove(gaps, 1) end
      gaps[#gaps + 1] = { top, from }
      return fresh
    end
  end
  if gaps and from < top then
    for at = #gaps, 1, -1 do
      local gap = gaps[at]
      local low, high = from > gap[1] and from or gap[1], to < gap[2] and to or gap[2]
      if low < high then
        fresh = fresh + high - low
        table.remove(gaps, at)
        if high < gap[2] then table.insert(gaps, at, { high, gap[2] }) end
        if gap[1] < low then table.insert(gaps, at, { gap[1], low }) end
      end
    end
  end
  return fresh
end

-- Flags other than a plain ACK or PSH-ACK. A connection's end is what came first: a reset, or a FIN from both sides.
local function note_flags(c, side, time, flags)
  local fin, syn = flags % 2 >= 1, flags % 4 >= 2
  local reset, ack = flags % 8 >= 4, flags % 32 >= 16
  if syn and not ack then
    if c[STAGE] == NOTHING then c[STAGE], c[ASKED_AT], c[CLIENT] = ASKED, time, side end
    c[SYN] = true
  elseif syn then
    c[CLIENT] = c[CLIENT] or (side == c[A] and c[B] or c[A])
    if c[STAGE] <= ASKED and side ~= c[CLIENT] then c[STAGE] = ANSWERED end
  end
  if reset then
    tick(side, RESETS)
    if not c[OUTCOME] then
      c[OUTCOME] = c[STAGE] == ASKED and side ~= c[CLIENT] and "refused" or "reset"
    end
  end
  if fin then
    side[FIN] = true
    if not c[OUTCOME] and c[A][FIN] and c[B][FIN] then c[OUTCOME] = "closed" end
  end
end

-- So many connections are told apart; all further ones are counted as one.
local MOST_CONNECTIONS = 500000

-- What runs of sharkstat follow, by what they ask for: most ask for the same, and then one does the work for all.
local followed = {}

-- The connections that another run follows already, if they are what this one wants. It listens to nothing itself: for each
-- listener to tcp tshark makes a table of the whole header. Only where packets are cut, those that it misses are counted.
local function join(run, key, analysis)
  local other = followed[key]
  if not other or (analysis and not other.analysis) then return nil end
  if sharkstat.cut then run:listen("tcp", function() end) end
  return other.connections
end

-- Listens to TCP for a run, and gives its connections (rows.lua), those beyond the bound in one. With `analysis`, tshark's
-- remarks on segments (tcp.analysis) and round-trip times are counted too. They are for looking at.
function streams.follow(run, analysis)
  local key = run.filter or ""
  run.follows = analysis and key or nil
  local joined = sharkstat.hosted and join(run, key, analysis)
  if joined then
    run:bounded(joined)
    return joined
  end

  local connections = rows.new(MOST_CONNECTIONS, function(key, info, time)
    if not key then
      return {
        0, 0, new_side(), new_side(), math.huge, -math.huge, NOTHING, false, false, false, false, false, false, false, false,
        count = 0, seen = {},
      }
    end
    return {
      info.th_sport, info.th_dport, new_side(), new_side(), time, time, NOTHING,
      info.th_stream, run:address(info.ip_src), run:address(info.ip_dst), false, false, false, false, false,
    }
  end)
  run:bounded(connections)
  local known = connections.known
  local following = { name = run.statistic.name, analysis = analysis, connections = connections, busy = false, partial = 0 }
  connections.following = following
  if sharkstat.hosted then followed[key] = following end
  if analysis and sharkstat.cut then
    require("sharkstat_cut").unremarked(sharkstat, run, function() following.partial = following.partial + 1 end)
  end
  local flagged, acknowledged, remarks, measures
  if analysis then
    flagged, acknowledged = sharkstat.field "tcp.analysis.flags", sharkstat.field "tcp.analysis.ack_rtt"
    remarks, measures = {}, {}
    for measure, name in pairs(REMARKS) do
      remarks[#remarks + 1], measures[#measures + 1] = sharkstat.field(name), measure
    end
  end

  -- Fields are those of a packet, not of a header. tshark knows no tunnel through TCP, so a packet has but one that
  -- counts; the one that an ICMP error quotes is not announced.
  local function note_remarks(side)
    for at = 1, #remarks do
      if remarks[at]() then tick(side, measures[at]) end
    end
  end

  local virtual_networks = networks.of(run, "tcp",
    "they are separated, with retransmissions only by sequence numbers, and without round-trip times")
  local mixed = virtual_networks.mixed

  local function note_rtt(side, found)
    local rtt = sharkstat.nanoseconds(found.value)
    if rtt < 0 then return end  -- the packets are out of order, and the host says so
    side[RTTS], side[RTT_TOTAL] = side[RTTS] + 1, plus(side[RTT_TOTAL], rtt)
    if not side[RTT_MIN] or rtt < side[RTT_MIN] then side[RTT_MIN] = rtt end
    if not side[RTT_MAX] or rtt > side[RTT_MAX] then side[RTT_MAX] = rtt end
  end

  virtual_networks:listen("tcp", function(pinfo, _, info, virtual, length, time)
    following.busy = true
    local stream = info.th_stream
    local key = (virtual or networks.all) and virtual_networks:key(stream, pinfo, virtual) or stream
    local c = known[key] or connections:of(key, info, time)
    local source_port = info.th_sport
    local forward = source_port == c[PORT_A]
    if forward and source_port == c[PORT_B] then forward = run:address(info.ip_src) == c[ADDRESS_A] end
    local side = forward and c[A] or c[B]
    side[PACKETS] = side[PACKETS] + 1
    side[BYTES] = side[BYTES] + length
    if time > c[STOP] then c[STOP] = time end
    if time < c[START] then c[START] = time end
    local flags, payload = info.th_flags, info.th_seglen
    if payload > 0 then side[PAYLOAD] = side[PAYLOAD] + payload end
    if not c[STREAM] then
      -- Many in one.
      if not c.seen[key] then c.count, c.seen[key] = c.count + 1, true end
      if flags % 8 >= 4 then tick(side, RESETS) end
    else
      local fresh = payload > 0 and new_bytes(side, info.th_seq, payload)
      if fresh then
        side[NEW] = side[NEW] + fresh
        if fresh == 0 and mixed[stream] then tick(side, RETRANSMISSIONS) end
      end
      if flags ~= 0x10 and flags ~= 0x18 then note_flags(c, side, time, flags) end
      if c[STAGE] == ANSWERED and side == c[CLIENT] and flags % 4 < 2 and flags % 32 >= 16 then
        c[STAGE], c[ESTABLISHED_AT] = ESTABLISHED, time
      end
    end
    if analysis and not mixed[stream] then
      if flagged() then note_remarks(side) end
      local rtt = acknowledged()
      if rtt then note_rtt(side, rtt) end
    end
    following.busy = false
  end)
  return connections
end

-- The ends of a connection whose SYN was not seen and whose ports tell nothing: who has more peers is the server. They
-- are counted once a result.
local function count_peers(connections)
  local peers = server.peers(2 * #connections.all)
  for _, c in ipairs(connections.all) do
    if server.by_service(c[PORT_A], c[PORT_B]) == nil then
      peers:add("tcp", c[ADDRESS_A], c[PORT_A])
      peers:add("tcp", c[ADDRESS_B], c[PORT_B])
    end
  end
  return peers
end

-- A function that tells which side of a connection is the client: client, server, the address and port of each, and
-- whether that is known. Where it is not, whoever sent the first packet comes first.
function streams.roles(connections)
  local following, peers = connections.following, nil
  if following.busy then error("what it shares with " .. following.name .. " failed", 0) end
  return function(c)
    local b_serves
    if c[CLIENT] then
      b_serves = c[CLIENT] == c[A]
    else
      b_serves = server.by_service(c[PORT_A], c[PORT_B])
      if b_serves == nil then
        peers = peers or count_peers(connections)
        b_serves = peers:second_serves("tcp", c[ADDRESS_A], c[PORT_A], c[ADDRESS_B], c[PORT_B])
      end
    end
    if b_serves == false then return c[B], c[A], c[ADDRESS_B], c[PORT_B], c[ADDRESS_A], c[PORT_A], true end
    return c[A], c[B], c[ADDRESS_A], c[PORT_A], c[ADDRESS_B], c[PORT_B], b_serves ~= nil
  end
end

-- How long from the first SYN until the client acknowledged the answer; nil where that was not seen.
function streams.handshake(c)
  local time = c[ASKED_AT] and c[ESTABLISHED_AT] and elapsed(c[ASKED_AT], c[ESTABLISHED_AT])
  return time and time >= 0 and time or nil
end

function streams.stream(c) return c[STREAM] end
function streams.start(c) return c[START] end
function streams.duration(c) return elapsed(c[START], c[STOP]) end

-- How it went: refused, reset, timed_out (a SYN without any answer), closed (a FIN from both sides) or open.
function streams.outcome(c)
  if c[OUTCOME] then return c[OUTCOME] end
  local other = c[CLIENT] == c[A] and c[B] or c[A]
  if c[STAGE] == ASKED and other[PACKETS] == 0 then return "timed_out" end
  return "open"
end

function streams.asked(c) return c[SYN] or c[STAGE] >= ANSWERED end
function streams.completed(c) return c[STAGE] == ESTABLISHED end

-- Adds up sides, for a server's row. Minima and maxima are taken, not added.
function streams.new_side() return new_side() end

function streams.add(sum, side)
  for at = 1, LAST_MEASURE do
    if at == RTT_MIN then
      if side[at] and not (sum[at] and sum[at] <= side[at]) then sum[at] = side[at] end
    elseif at == RTT_MAX then
      if side[at] and not (sum[at] and sum[at] >= side[at]) then sum[at] = side[at] end
    elseif at == RTT_TOTAL then
      sum[at] = plus(sum[at], side[at])
    elseif at ~= TOP and at ~= FIN then
      sum[at] = (sum[at] or 0) + (side[at] or 0)
    end
  end
end

-- The columns that tcp,health and tcp,servers have in common, from packets on, in the order of their headers: sums of
-- both sides, with the `handshakes` (a list, n) between them, and then what each side did. Without a duration nothing is
-- known but the sums.
function streams.measures(row, client, server, start, duration, handshakes)
  local both = new_side()
  streams.add(both, client)
  streams.add(both, server)
  local function put(value)
    row.n = row.n + 1
    row[row.n] = value
  end
  for _, at in ipairs { PACKETS, BYTES, RETRANSMISSIONS, LOST, RESETS, ZERO_WINDOWS } do put(both[at] or 0) end
  for at = 1, handshakes.n do put(handshakes[at]) end
  put(both[RTT_MIN] or nil)
  put(both[RTT_MAX] or nil)
  for _, at in ipairs { DUPLICATE_ACKS, OUT_OF_ORDER, FAST, SPURIOUS } do put(both[at] or 0) end
  put(duration)
  put(both[PAYLOAD])
  put(duration and both[NEW])
  put(start)
  put(both[RTT_TOTAL])
  put(both[RTTS])
  for _, side in ipairs { client, server } do
    for _, at in ipairs { PACKETS, BYTES, PAYLOAD, RETRANSMISSIONS, DUPLICATE_ACKS, OUT_OF_ORDER, LOST, ZERO_WINDOWS,
                          RESETS } do
      put(duration and (side[at] or 0))
    end
    put(duration and side[RTT_MIN] or nil)
    put(duration and side[RTT_MAX] or nil)
    put(duration and side[RTT_TOTAL])
    put(duration and side[RTTS])
  end
end

-- Both sides of all connections behind the first `most`, and when the first of them began; nil where there are none.
function streams.rest(connections, most)
  local a, b, start = new_side(), new_side(), nil
  for at = most + 1, #connections.all + 1 do
    local c = connections.all[at] or connections.other
    if not c then break end
    streams.add(a, c[A])
    streams.add(b, c[B])
    if not start or c[START] < start then start = c[START] end
  end
  if most >= #connections.all + 1 and connections.other then
    return connections.other[A], connections.other[B], connections.other[START]
  end
  return a, b, start
end

function streams.counts(side) return side[PACKETS], side[BYTES] end
function streams.sides(c) return c[A], c[B] end

-- For how many packets of a run with analysis tshark remarks nothing, since they are cut in TCP's options.
function streams.unremarked(run)
  local following = run.follows and followed[run.follows]
  return following and following.partial or 0
end

return streams
