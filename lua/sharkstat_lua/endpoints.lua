-- Endpoints: every address, and for TCP and UDP every port, with what it sent and received, as
-- tshark's -z endpoints,TYPE counts them.
-- By itself: tshark -q -X lua_script:endpoints.lua -z sharkstat,endpoints,ip -r FILE

package.path = (__DIR__ or debug.getinfo(1, "S").source:match("@(.*[/\\])")) .. "?.lua;" .. package.path
local sharkstat = require "sharkstat"
local talks = require "talks"

local moment = sharkstat.moment

-- What an endpoint holds, by position: a table with names is slower to fill, once a packet.
local ADDRESS, PORT, TX_PACKETS, TX_BYTES, RX_PACKETS, RX_BYTES = 1, 2, 3, 4, 5, 6
-- The two endpoints of those that talk.
local FROM, TO = 6, 7

local function finder(all)
  local seen = {}
  return function(address, port)
    local ports = seen[address]
    if not ports then
      ports = {}
      seen[address] = ports
    end
    local endpoint = ports[port or 0]
    if not endpoint then
      endpoint = { address, port, 0, 0, 0, 0 }
      ports[port or 0] = endpoint
      all[#all + 1] = endpoint
    end
    return endpoint
  end
end

local function count(talk, forward, pinfo)
  local _, length = moment(pinfo)
  local sender, receiver = talk[FROM], talk[TO]
  if not forward then sender, receiver = receiver, sender end
  sender[TX_PACKETS] = sender[TX_PACKETS] + 1
  sender[TX_BYTES] = sender[TX_BYTES] + length
  receiver[RX_PACKETS] = receiver[RX_PACKETS] + 1
  receiver[RX_BYTES] = receiver[RX_BYTES] + length
end

local function columns_of(kind)
  local columns = { { "address", "address" } }
  if kind.ports then columns[2] = { "port", "integer" } end
  for _, name in ipairs { "tx_packets", "tx_bytes", "rx_packets", "rx_bytes" } do
    columns[#columns + 1] = { name, "integer", unit = name:match("%a+$") }
  end
  return columns
end

for _, kind in ipairs(talks.KINDS) do
  sharkstat.register {
    name = "endpoints," .. kind.name,
    z_name = "sharkstat,endpoints," .. kind.name,
    title = kind.title .. " endpoints",
    columns = columns_of(kind),
    start = function(run)
      run.filter = run.arguments
      local all = {}
      local endpoint_of = finder(all)
      local nobody = finder {}  -- the header of a Linux cooked capture has but a sender
      local receiver_of = kind.name == "sll" and nobody or endpoint_of
      talks.listen(run, kind, function(source, source_port, destination, destination_port, stream)
        return {
          source, source_port, destination, destination_port, stream,
          endpoint_of(source, source_port), receiver_of(destination, destination_port),
        }
      end, count)
      return function()
        for _, e in ipairs(all) do
          if kind.ports then
            run:row { e[ADDRESS], e[PORT], e[TX_PACKETS], e[TX_BYTES], e[RX_PACKETS], e[RX_BYTES] }
          else
            run:row { e[ADDRESS], e[TX_PACKETS], e[TX_BYTES], e[RX_PACKETS], e[RX_BYTES] }
          end
        end
      end
    end,
  }
end
