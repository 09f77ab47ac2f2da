-- The frames of HTTP/2 and HTTP/3 in a packet, from tshark's fields (http_streams.lua).
--
--     local frames_of = http_frames.http2()     -- nil where this tshark cannot read them
--     for _, frame in ipairs(frames_of()) do ... end
--
-- A frame has kind, stream (nil for those of the connection), length, flags, and headers, by name, where it may have any;
-- PUSH_PROMISE has the stream that is `promised`. Frames of HTTP/3 have the `place` in its stream of the piece that
-- brought them, and flags as in HTTP/2: QUIC says how a stream ends.

local sharkstat = require "sharkstat"

local http_frames = {
  DATA = 0, HEADERS = 1, RST_STREAM = 3, PUSH_PROMISE = 5, CONTINUATION = 9, END_STREAM = 0x1, END_HEADERS = 0x4,
}
local DATA, HEADERS, PUSH_PROMISE = http_frames.DATA, http_frames.HEADERS, http_frames.PUSH_PROMISE
local BLOCKS = { [HEADERS] = true, [PUSH_PROMISE] = true, [http_frames.CONTINUATION] = true }

-- Reads the headers of the frames of a packet, those that have `headers`. `kind_field`, `names` and `values` are the names
-- of fields.
local function header_reader(kind_field, name_field, value_field)
  local names, values = sharkstat.field(name_field), sharkstat.field(value_field)
  -- The fields of several blocks cannot be told apart by their places, since each block is unpacked into bytes of its
  -- own. But those of a frame follow its type in the tree.
  local function deal_out(frames)
    local at, name = 0, nil
    for _, info in ipairs { all_field_infos() } do
      local field = info.name
      if field == kind_field then
        at = at + 1
      elseif field == name_field then
        name = info.value
      elseif field == value_field and name and frames[at] and frames[at].headers then
        frames[at].headers[name] = info.value
      end
    end
  end
  return function(frames)
    local blocks, block = 0, nil
    for _, frame in ipairs(frames) do
      if frame.headers then blocks, block = blocks + 1, frame end
    end
    if blocks == 1 then
      local all_values = { values() }
      for index, name in ipairs { names() } do
        block.headers[name.value] = all_values[index] and all_values[index].value
      end
    elseif blocks > 1 then
      deal_out(frames)
    end
  end
end

function http_frames.http2()
  local kinds, numbers = sharkstat.field "http2.type", sharkstat.field "http2.streamid"
  local lengths, flags = sharkstat.field "http2.length", sharkstat.field "http2.flags"
  local promised = sharkstat.field "http2.push_promise.promised_stream_id"
  local read_headers = header_reader("http2.type", "http2.header.name", "http2.header.value")
  return function()
    local all_numbers, all_lengths, all_flags = { numbers() }, { lengths() }, { flags() }
    local frames, pushes = {}, 0
    for index, kind in ipairs { kinds() } do
      local number, length, bits = all_numbers[index], all_lengths[index], all_flags[index]
      if not (number and length and bits) then break end  -- cut short
      local frame = { kind = kind.value, length = length.value, flags = bits.value }
      if number.value > 0 then frame.stream = number.value end
      frames[index] = frame
      if BLOCKS[frame.kind] then frame.headers = {} end
      if frame.kind == PUSH_PROMISE then
        pushes = pushes + 1
        local stream = select(pushes, promised())
        frame.promised = stream and stream.value
      end
    end
    read_headers(frames)
    return frames
  end
end

local function number_of(field)
  local value = field.value
  return type(value) == "number" and value or value:tonumber()  -- of 64 bits
end

-- tshark 4.0 cannot unpack the headers of HTTP/3.
function http_frames.http3()
  local name = "http3.header.header.name"
  if not pcall(sharkstat.field, name) then return end
  local kinds, lengths = sharkstat.field "http3.frame_type", sharkstat.field "http3.frame_length"
  local known, numbers = pcall(sharkstat.field, "http3.frame_streamid")  -- from 4.6 on
  local parts, finals = sharkstat.field "quic.stream.stream_id", sharkstat.field "quic.stream.fin"
  local has_offset, offsets = sharkstat.field "quic.stream.off", sharkstat.field "quic.stream.offset"
  local read_headers = header_reader("http3.frame_type", name, "http3.headers.header.value")

  -- The requests' streams of a packet, in order: a client's, and of both directions (RFC 9000, 2.1). Where in each the
  -- packet's first piece of it is, and which of them it ends.
  local function streams_of()
    local found, places, ends = {}, {}, {}
    local all_finals, have_offset, all_offsets, at = { finals() }, { has_offset() }, { offsets() }, 0
    for index, part in ipairs { parts() } do
      local stream, place = number_of(part), 0
      if have_offset[index] and have_offset[index].value then
        at = at + 1
        place = all_offsets[at] and number_of(all_offsets[at]) or 0
      end
      if stream % 4 == 0 then
        if not places[stream] then found[#found + 1], places[stream] = stream, place end
        if all_finals[index] and all_finals[index].value then ends[#ends + 1] = stream end
      end
    end
    return found, places, ends
  end

  return function()
    local streams, places, ends = streams_of()
    local all_lengths, all_numbers = { lengths() }, known and { numbers() } or nil
    local frames, at = {}, 0
    for index, kind in ipairs { kinds() } do
      local length, stream = all_lengths[index], nil
      if not length then break end
      kind = number_of(kind)
      if kind == DATA or kind == HEADERS or kind == PUSH_PROMISE then
        if all_numbers then
          stream = all_numbers[index] and number_of(all_numbers[index])
        else
          -- A request or response begins with its headers, and what goes before them is of another stream.
          if kind == HEADERS or at == 0 then at = math.min(at + 1, #streams) end
          stream = streams[at]
        end
      end
      local frame = { kind = kind, stream = stream, length = number_of(length), flags = http_frames.END_HEADERS }
      frame.place = stream and places[stream]
      frames[index] = frame
      if kind == HEADERS or kind == PUSH_PROMISE then frame.headers = {} end
    end
    read_headers(frames)
    for _, stream in ipairs(ends) do
      frames[#frames + 1] = { kind = DATA, stream = stream, length = 0, flags = http_frames.END_STREAM }
    end
    return frames
  end
end

return http_frames
