-- name: loss
-- title: RTP loss and jitter
-- description: Which voice and video streams lose packets or have jitter?
--     One row per RTP stream (one SSRC from one endpoint to another): packets lost, duplicated and out of order by their
--     sequence numbers, and the jitter of RFC 3550. A sequence number that is 3000 or more ahead, 1000 or more behind, or
--     repeated with another timestamp starts a new sequence. For payload types without a fixed clock rate, it is taken
--     from the SDP for the stream's receiver, else for its sender; behind NAT, from the SDP for the port; else from all
--     SDPs so far if they agree. Without a clock rate there is no jitter; it is not computed across timestamps that jump
--     by 10 s. Lost in tshark's own rtp,streams is lost minus duplicates here.
-- parameter: max integer 100000 maximum number of streams; further ones share the row `(other)`
-- column: source_address address key title=Source
-- column: source_port integer key dynamic title=Port
-- column: destination_address address key title=Destination
-- column: destination_port integer key dynamic title=Port
-- column: ssrc text key title=SSRC; the synchronization source identifier
-- column: packets integer sum packets
-- column: bytes integer sum bytes
-- column: lost integer sum packets; expected packets that never arrived
-- column: lost_percent number lost/expected percent title="Lost %"
-- column: duplicates integer sum packets
-- column: out_of_order integer sum packets title="Out of|order"; late, but not lost
-- column: mean_jitter duration jitter_total/jitters seconds title=Jitter|mean; mean of the jitter after each packet
-- column: max_jitter duration max seconds title=Jitter|max
-- column: max_delta duration max seconds title=Delta|max; the longest time between two packets
-- column: start time min
-- column: stop time max hidden
-- column: expected integer sum packets hidden; according to the sequence numbers
-- column: jitter_total duration sum seconds hidden
-- column: jitters integer sum hidden; packets whose clock rate is known
-- section: 820 rows=0
-- finding: lost/expected warning=0.005 bad=0.05 worst=destination_address RTP packets lost
-- sort: lost descending, packets descending, start
-- field: rtp.ssrc
-- field: rtp.seq
-- field: rtp.timestamp
-- field: rtp.p_type
-- field: sdp.connection_info.address
-- field: sdp.media
-- field: sdp.media_attr
-- layer: messages

package.path = (__DIR__ or debug.getinfo(1, "S").source:match("@(.*[/\\])")) .. "?.lua;" .. package.path
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

-- The last sequence numbers are remembered with their timestamps, or `false` where they did not come, to know what is
-- late from what is double.
local WINDOW = 1000
-- So many packets are not lost at once: the sender began anew (RFC 3550, A.1).
local DROPOUT = 3000

local function begin_sequence(s, sequence, timestamp)
  s.base, s.top, s.expected, s.stamps = sequence, sequence, s.expected + 1, { [sequence % WINDOW] = timestamp }
end

local function are_missing(s, from, to)
  for number = math.max(from, to - WINDOW + 1), to do s.stamps[number % WINDOW] = false end
end

local function number_packet(s, sequence, timestamp)
  if not s.top then return begin_sequence(s, sequence, timestamp) end
  local ahead = (sequence - s.top) % 65536
  if ahead >= 32768 then ahead = ahead - 65536 end
  if ahead >= DROPOUT or ahead <= -WINDOW then return begin_sequence(s, sequence, timestamp) end
  local number = s.top + ahead
  local stamps, slot = s.stamps, number % WINDOW
  if ahead > 0 then
    if ahead > 1 then are_missing(s, s.top + 1, number - 1) end
    s.lost, s.expected, s.top = s.lost + ahead - 1, s.expected + ahead, number
  elseif number < s.base then  -- it was sent before the first that came
    are_missing(s, number + 1, s.base - 1)
    s.lost, s.expected = s.lost + s.base - number - 1, s.expected + s.base - number
    s.base, s.out_of_order = number, s.out_of_order + 1
  elseif not stamps[slot] then
    s.lost, s.out_of_order = s.lost - 1, s.out_of_order + 1
  elseif stamps[slot] == timestamp then
    s.duplicates = s.duplicates + 1
  else
    return begin_sequence(s, sequence, timestamp)
  end
  stamps[slot] = timestamp
end

-- Timestamps that jump by more than this against the clock tell of no jitter: a call was held, a sender restarted.
local JUMP = 10e9

-- The estimate of RFC 3550, section 6.4.1: how much the way of a packet differed in length from that of the one before,
-- in the order of arrival.
local function time_packet(s, time, timestamp, clock)
  local delta = elapsed(s.seen or time, time)
  if delta > s.max_delta then s.max_delta = delta end
  s.seen = time
  if clock == 0 then return end
  if s.time and s.clock == clock then
    local ticks = (timestamp - s.timestamp) % 2 ^ 32
    if ticks >= 2 ^ 31 then ticks = ticks - 2 ^ 32 end
    local passed = elapsed(s.time, time)
    local difference = type(passed) == "number" and math.abs(passed - ticks * 1e9 / clock) or JUMP
    if difference < JUMP then
      s.jitter = s.jitter + (difference - s.jitter) / 16
      local jitter = floor(s.jitter + 0.5)
      s.jitter_total, s.jitters = sharkstat.plus(s.jitter_total, jitter), s.jitters + 1
      if not s.max_jitter or jitter > s.max_jitter then s.max_jitter = jitter end
    end
  end
  s.time, s.timestamp, s.clock = time, timestamp, clock
end

-- How many receivers' session descriptions are remembered.
local SESSIONS = 100000

sharkstat.tap(__FILE__, function(run)
  run.reads = { protocols = { "rtp", "sip", "sdp", "rtsp" }, whole = "rtp.timestamp && rtp.ssrc && !sip" }
  local ssrc_field, sequence_field = sharkstat.field "rtp.ssrc", sharkstat.field "rtp.seq"
  local timestamp_field, type_field = sharkstat.field "rtp.timestamp", sharkstat.field "rtp.p_type"
  local address_field, media_field = sharkstat.field "sdp.connection_info.address", sharkstat.field "sdp.media"
  local attribute_field = sharkstat.field "sdp.media_attr"
  local streams = rows.new(run, function(ssrc, source_port, destination_port, source, destination)
    if not ssrc then return { source = sharkstat.OTHER, packets = 0, bytes = 0 } end
    return {
      source = source, source_port = source_port, destination = destination, destination_port = destination_port,
      ssrc = ("0x%08x"):format(ssrc), packets = 0, bytes = 0, lost = 0, duplicates = 0, out_of_order = 0, expected = 0,
      jitter = 0, jitter_total = 0, jitters = 0, max_delta = 0,
    }
  end)
  -- The clocks of payload types by receiver, as "address port" and as port alone, and of all sessions together.
  local sessions, agreed = rows.waiting(SESSIONS, function() end), {}
  local described = 0  -- how many descriptions came: only then a stream's clock may change

  local function clock_at(key, payload_type)
    local clocks = sessions:find(key)
    return clocks and clocks[payload_type]
  end

  local function clock_of(pinfo, source, destination, payload_type)
    return clock_at(destination .. " " .. pinfo.dst_port, payload_type)
      or clock_at(source .. " " .. pinfo.src_port, payload_type)
      or clock_at(pinfo.dst_port, payload_type) or clock_at(pinfo.src_port, payload_type)
      or CLOCKS[payload_type] or agreed[payload_type] or 0
  end

  local function describe(address, port, clocks)
    for _, key in ipairs { address and address .. " " .. port, port } do
      if not sessions:find(key) then sessions:put(key, {}) end
      local known = sessions:find(key)
      for payload_type, clock in pairs(clocks) do known[payload_type] = clock end
    end
    for payload_type, clock in pairs(clocks) do
      agreed[payload_type] = (agreed[payload_type] or clock) == clock and clock or 0
    end
  end

  -- A description is lines of text: what stands before the first media line holds for all media (RFC 8866).
  run:listen("sdp", function()
    described = described + 1
    local lines = {}
    for kind, field in pairs { address = address_field, media = media_field, attribute = attribute_field } do
      for _, line in ipairs { field() } do lines[#lines + 1] = { line.offset, kind, tostring(line.value) } end
    end
    table.sort(lines, function(one, other) return one[1] < other[1] end)
    local for_all, address, port, clocks
    local function ends()
      if port then describe(address or for_all, port, clocks) end
    end
    for _, line in ipairs(lines) do
      local _, kind, text = table.unpack(line)
      if kind == "media" then
        ends()
        address, port, clocks = nil, tonumber(text:match("^%S+ (%d+)")), {}
      elseif kind == "address" then
        if clocks then address = text else for_all = text end
      elseif clocks then
        local payload_type, encoding, rate = text:match("^rtpmap:(%d+)%s+([^/]+)/(%d+)")
        -- The timestamps of key presses stand still (RFC 4733), so there is no jitter in them.
        if payload_type then
          clocks[tonumber(payload_type)] = encoding:lower() ~= "telephone-event" and tonumber(rate) or 0
        end
      end
    end
    ends()
  end)

  run:listen("rtp", function(pinfo)
    local ssrc, sequence = ssrc_field(), sequence_field()
    if not ssrc or not sequence then return end  -- only the version was there
    local _, length, time = moment(pinfo)
    local source, destination = run:address(pinfo.src), run:address(pinfo.dst)
    local s = streams:at(ssrc.value, pinfo.src_port, pinfo.dst_port, source, destination)
    s.packets, s.bytes = s.packets + 1, s.bytes + length
    if not s.start or time < s.start then s.start = time end
    if not s.stop or time > s.stop then s.stop = time end
    if s ~= streams.other then
      local timestamp = timestamp_field()
      if not timestamp then return end  -- cut short
      timestamp = timestamp.value
      number_packet(s, sequence.value, timestamp)
      local payload_type = type_field().value
      if payload_type ~= s.payload_type or described ~= s.described then
        s.payload_type, s.described, s.rate = payload_type, described, clock_of(pinfo, source, destination, payload_type)
      end
      time_packet(s, time, timestamp, s.rate)
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
