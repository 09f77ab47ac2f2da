-- Conversations: who talked with whom, both ways, as tshark's -z conv,TYPE counts them, with exact
-- bytes and times. By itself: tshark -q -X lua_script:conversations.lua -z sharkstat,conv,tcp -r FILE
--
-- A is the sender of the first packet. Bytes are frame lengths on the wire.

package.path = (__DIR__ or debug.getinfo(1, "S").source:match("@(.*[/\\])")) .. "?.lua;" .. package.path
local sharkstat = require "sharkstat"
local talks = require "talks"
local networks = require "networks"
local flows = require "flows"

local moment = sharkstat.moment

-- What a conversation holds, by position: a table with names is slower to fill, once a packet.
local ADDRESS_A, PORT_A, ADDRESS_B, PORT_B, STREAM = 1, 2, 3, 4, 5
local PACKETS_AB, BYTES_AB, PACKETS_BA, BYTES_BA, FIRST, LAST = 6, 7, 8, 9, 10, 11

local function count(conversation, forward, pinfo)
  local _, length, time = moment(pinfo)
  if forward then
    conversation[PACKETS_AB] = conversation[PACKETS_AB] + 1
    conversation[BYTES_AB] = conversation[BYTES_AB] + length
  else
    conversation[PACKETS_BA] = conversation[PACKETS_BA] + 1
    conversation[BYTES_BA] = conversation[BYTES_BA] + length
  end
  local last = conversation[LAST]
  if not last then
    conversation[FIRST], conversation[LAST] = time, time
  elseif time > last then
    conversation[LAST] = time
  elseif time < conversation[FIRST] then
    conversation[FIRST] = time
  end
end

-- Where rows are kept apart by flow, and the kind is one of addresses: what of a conversation belongs to a packet's flow.
local function part_of(conversation, pinfo, all)
  local flow = flows.of(pinfo)
  local part = conversation.parts[flow or "none"]
  if not part then
    part = { conversation[ADDRESS_A], false, conversation[ADDRESS_B], false, false, 0, 0, 0, 0, false, false, flow = flow }
    conversation.parts[flow or "none"], all[#all + 1] = part, part
  end
  return part
end

local function columns_of(kind)
  local columns = {}
  local function add(name, type, unit) columns[#columns + 1] = { name, type, unit = unit } end
  add("address_a", "address")
  if kind.ports then add("port_a", "integer") end
  add("address_b", "address")
  if kind.ports then add("port_b", "integer") end
  add("packets_a_to_b", "integer", "packets")
  add("bytes_a_to_b", "integer", "bytes")
  add("packets_b_to_a", "integer", "packets")
  add("bytes_b_to_a", "integer", "bytes")
  add("start", "time")
  add("stop", "time")
  if kind.streams then add("stream", "integer") end
  return columns
end

for _, kind in ipairs(talks.KINDS) do
  sharkstat.register {
    name = "conv," .. kind.name,
    z_name = "sharkstat,conv," .. kind.name,
    title = kind.title .. " conversations",
    columns = columns_of(kind),
    start = function(run)
      run.filter = run.arguments
      local all = {}
      if kind.streams then networks.watch(run, kind.name, "they are counted as one") end
      local by_parts = flows.wanted and not kind.ports
      talks.listen(run, kind, function(source, source_port, destination, destination_port, stream)
        local conversation = { source, source_port, destination, destination_port, stream, 0, 0, 0, 0, false, false }
        if by_parts then
          conversation.parts = {}
        else
          conversation.flow = flows.number(kind.name, stream)
          all[#all + 1] = conversation
        end
        return conversation
      end, not by_parts and count or function(conversation, forward, pinfo)
        count(part_of(conversation, pinfo, all), forward, pinfo)
      end)
      return function()
        for _, c in ipairs(all) do
          if kind.ports then
            run:row {
              c[ADDRESS_A], c[PORT_A], c[ADDRESS_B], c[PORT_B],
              c[PACKETS_AB], c[BYTES_AB], c[PACKETS_BA], c[BYTES_BA], c[FIRST], c[LAST], kind.streams and c[STREAM] or nil,
              flow = c.flow,
            }
          else
            run:row {
              c[ADDRESS_A], c[ADDRESS_B],
              c[PACKETS_AB], c[BYTES_AB], c[PACKETS_BA], c[BYTES_BA], c[FIRST], c[LAST],
              flow = c.flow,
            }
          end
        end
      end
    end,
  }
end
