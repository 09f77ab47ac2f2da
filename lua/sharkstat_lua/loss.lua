-- name: loss
-- title: RTP loss and jitter
-- description: Which voice and video streams lose packets, or get them unevenly?
--     Every RTP stream (one SSRC from one end to another): packets lost, doubled and out of order by their sequence
--     numbers, and the jitter of RFC 3550. A sequence number that is behind by more than 1000 begins a new sequence, and so do timestamps that jump by 10 s.
--     tshark's own rtp,streams takes one number for losses and doubles: its Lost is lost minus duplicates here.
-- parameter: max integer 100000 streams told apart; all further ones share the row `(other)`
-- column: source_address address key
-- column: source_port integer key dynamic
-- column: destination_address address key
-- column: destination_port integer key dynamic
-- column: ssrc text key; the synchronization source identifier
-- column: packets integer sum packets
-- column: bytes integer sum bytes
-- column: lost integer sum packets; of those expected, seen neither in time nor late
-- column: lost_percent number lost/expected percent
-- column: duplicates integer sum packets
-- column: out_of_order integer sum packets; late, but not lost
-- column: mean_jitter duration jitter_total/jitters seconds; of the estimates after each packet
-- column: max_jitter duration max seconds
-- column: max_delta duration max seconds; the longest time between two packets
-- column: start time min
-- column: stop time max hidden
-- column: expected integer sum packets hidden; by the sequence numbers
-- column: jitter_total duration sum seconds hidden
-- column: jitters integer sum hidden; packets whose payload type has a known clock
-- sort: lost descending, packets descending, start
-- field: rtp.ssrc
-- field: rtp.seq
-- field: rtp.timestamp
-- field: rtp.p_type
-- field: sdp.media_attr
-- layer: messages

if __DIR__ then package.path = __DIR__ .. "?.lua;" .. package.path end
local sharkstat = require "sharkstat"
local rows = require "rows"

local moment, elapsed = sharkstat.moment, sharkstat.elapsed
local floor = math.floor

-- Clock rates of the payload types that have a fixed one (RFC 3551); of others the session's description tells.
local CLOCKS = {
  [6] = 16000, [10] = 44100, [11] = 44100, [14] = 90000, [16] = 11025, [17] = 22050, [25] = 90000, [26] = 90000,
  [28] = 90000, [31] = 90000, [32] = 90000, [33] = 90000, [34] = 90000,
}
for _, payload_type in ipairs { 0, 1, 2, 3, 4, 5, 7, 8, 9, 12, 13, 15, 18, 19 } do CLOCKS[payload_type] = 8000 end

-- Sequence numbers that did not come are remembered for this long, to know what is late from what is double.
local WINDOW = 1000

local function number_packet(s, sequence)
  if not s.top then
    s.top, s.expected = sequence, 1
    return
  end
  local ahead = (sequence - s.top) % 65536
  if ahead >= 32768 then ahead = ahead - 65536 end
  if ahead > 0 then
    for missing = math.max(s.top + 1, s.top + ahead - WINDOW), s.top + ahead - 1 do
      s.missing[missing % WINDOW] = missing
    end
    s.missing[(s.top + ahead) % WINDOW] = nil
    s.lost, s.expected, s.top = s.lost + ahead - 1, s.expected + ahead, s.top + ahead
  elseif ahead > -WINDOW then
    local number = s.top + ahead
    if s.missing[number % WINDOW] == number then
      s.missing[number % WINDOW] = nil
      s.lost, s.out_of_order = s.lost - 1, s.out_of_order + 1
    else
      s.duplicates = s.duplicates + 1
    end
  else
    s.top, s.expected, s.missing = sequence, s.expected + 1, {}
  end
end

-- Timestamps that jump by more than this against the clock begin anew: a call that was held, a sender that restarted.
local JUMP = 10e9

-- The estimate of RFC 3550, section 6.4.1: how much the way of a packet differed in length from that of the one before,
-- in the order of arrival.
local function time_packet(s, time, timestamp, clock)
  local delta = elapsed(s.seen or time, time)
  if delta > s.max_delta then s.max_delta = delta end
  s.seen = time
  if clock == 0 then return end
  if s.time then
    local ticks = (timestamp - s.timestamp) % 2 ^ 32
    if ticks >= 2 ^ 31 then ticks = ticks - 2 ^ 32 end
    local difference = math.abs(elapsed(s.time, time) - ticks * 1e9 / clock)
    if difference < JUMP then
      s.jitter = s.jitter + (difference - s.jitter) / 16
      local jitter = floor(s.jitter + 0.5)
      s.jitter_total, s.jitters = s.jitter_total + jitter, s.jitters + 1
      if not s.max_jitter or jitter > s.max_jitter then s.max_jitter = jitter end
    end
  end
  s.time, s.timestamp = time, timestamp
end

sharkstat.tap(__FILE__, function(run)
  local ssrc_field, sequence_field = sharkstat.field "rtp.ssrc", sharkstat.field "rtp.seq"
  local timestamp_field, type_field = sharkstat.field "rtp.timestamp", sharkstat.field "rtp.p_type"
  local attribute_field = sharkstat.field "sdp.media_attr"
  local streams = rows.new(run.parameters.max, function(ssrc, source_port, destination_port, source, destination)
    if not ssrc then return { source = "(other)", packets = 0, bytes = 0 } end
    return {
      source = source, source_port = source_port, destination = destination, destination_port = destination_port,
      ssrc = ("0x%08x"):format(ssrc), packets = 0, bytes = 0, lost = 0, duplicates = 0, out_of_order = 0, expected = 0,
      missing = {}, jitter = 0, jitter_total = 0, jitters = 0, max_delta = 0,
    }
  end)
  local clocks = setmetatable({}, { __index = CLOCKS })

  run:listen("sdp", function()
    for _, attribute in ipairs { attribute_field() } do
      local payload_type, encoding, rate = tostring(attribute.value):match("^rtpmap:(%d+)%s+([^/]+)/(%d+)")
      -- The timestamps of key presses stand still (RFC 4733), so there is no jitter in them.
      if payload_type then
        clocks[tonumber(payload_type)] = encoding:lower() ~= "telephone-event" and tonumber(rate) or 0
      end
    end
  end)

  run:listen("rtp", function(pinfo)
    local ssrc, sequence = ssrc_field(), sequence_field()
    if not ssrc or not sequence then return end  -- only the version was there
    local _, length, time = moment(pinfo)
    local s = streams:at(
      ssrc.value, pinfo.src_port, pinfo.dst_port, run:address(pinfo.src), run:address(pinfo.dst))
    s.packets, s.bytes = s.packets + 1, s.bytes + length
    if not s.start or time < s.start then s.start = time end
    if not s.stop or time > s.stop then s.stop = time end
    if s ~= streams.other then
      number_packet(s, sequence.value)
      time_packet(s, time, timestamp_field().value, clocks[type_field().value] or 0)
    end
  end)

  return function()
    for s in streams:each() do
      run:row {
        s.source, s.source_port, s.destination, s.destination_port, s.ssrc, s.packets, s.bytes, s.lost, s.duplicates,
        s.out_of_order, s.max_jitter, s.packets > 1 and s.max_delta or nil, s.start, s.stop, s.expected,
        s.jitter_total, s.jitters,
      }
    end
  end
end)
