-- What the taps that count by service share: the names of servers, and which service a connection belongs to.

local sharkstat = require "sharkstat"

local digits = sharkstat.digits

local naming = {}

local MOST_NAMES = 100000
local LONGEST_NAME = 255

-- A host's name as it is asked for, without a port; nil for what is no name.
local function host_name(text)
  if #text > LONGEST_NAME then return nil end
  local name = text:lower():match("^%s*(.-)%s*$"):gsub(":%d+$", ""):gsub("%.$", "")
  if name == "" or name == "<root>" or name:find("^%d+%.%d+%.%d+%.%d+$") or name:find("^%[") then return nil end
  return name
end

-- The names that DNS gave for addresses, the last one of each.
local A, CNAME, AAAA = 1, 5, 28
function naming.address_book()
  local owners, types = sharkstat.field "dns.resp.name", sharkstat.field "dns.resp.type"
  local targets = sharkstat.field "dns.cname"
  local values = { [A] = sharkstat.field "dns.a", [AAAA] = sharkstat.field "dns.aaaa" }
  local names, room = {}, MOST_NAMES

  local function learn()
    if not (values[A]() or values[AAAA]()) then return end
    local owner, kind = { owners() }, { types() }
    local left = { [A] = { values[A]() }, [AAAA] = { values[AAAA]() }, [CNAME] = { targets() } }
    local counts = { [A] = 0, [AAAA] = 0, [CNAME] = 0 }
    for index = 1, #kind do
      local value = kind[index].value
      if counts[value] then counts[value] = counts[value] + 1 end
    end
    if #owner ~= #kind then return end
    for value, count in pairs(counts) do
      if count ~= #left[value] then return end  -- cut short, or malformed
    end
    -- Who asks for an alias has asked for its owner.
    local alias_of, at = {}, { [A] = 0, [AAAA] = 0, [CNAME] = 0 }
    for index = 1, #kind do
      if kind[index].value == CNAME then
        at[CNAME] = at[CNAME] + 1
        alias_of[left[CNAME][at[CNAME]].value] = owner[index].value
      end
    end
    for index = 1, #kind do
      local value = kind[index].value
      if value == A or value == AAAA then
        at[value] = at[value] + 1
        local name, steps = owner[index].value, 0
        while alias_of[name] and steps < #kind do name, steps = alias_of[name], steps + 1 end
        name = host_name(name)
        local address = digits(left[value][at[value]])
        if name and (names[address] or room > 0) then
          if not names[address] then room = room - 1 end
          names[address] = name
        end
      end
    end
  end
  return names, learn
end

-- What all connections with a server's port have in common: false where they differ.
local function agree(known, key, value)
  if value == nil then return end
  local before = known[key]
  if before == nil then known[key] = value elseif before ~= value then known[key] = false end
end

-- A function that gives a connection's own name, if this packet tells it; `path` is what layers.lua says of the packet.
function naming.of_connection()
  local hosts, hellos = sharkstat.field "http.host", sharkstat.field "tls.handshake.extensions_server_name"
  local authorities = sharkstat.field "http2.headers.authority"
  return function(path)
    local field = path.holds.http and hosts() or path.holds.http2 and authorities()
      or (path.holds.tls or path.holds.quic or path.holds.dtls) and hellos()
    return field and host_name(field.value)
  end
end

-- The service of each connection of a batch: protocol, name, address, port and whether the second end serves; without an
-- address where it is unknown which end does, and without a port unless both ends have the same. `names` is an address book's. What a connection does not show by
-- itself, all others with the same server and port tell, where they agree.
function naming.identify(book, batch, names)
  local ends, protocols, own_names, told = {}, {}, {}, {}
  for at, c in ipairs(batch) do
    local second = book:second_serves(c)
    local service = { second = second, transport = c.kind, flow = c.flow }
    told[at] = service
    if second ~= nil then
      service.address, service.port = second and c.b or c.a, second and c.port_b or c.port_a
      ends[at] = c.kind .. " " .. service.address .. " " .. service.port
      agree(protocols, ends[at], c.protocol or c.carrier)
      agree(own_names, ends[at], c.name or nil)
    end
  end
  for at, c in ipairs(batch) do
    local service, key = told[at], ends[at]
    service.protocol = c.protocol or c.carrier or (key and protocols[key]) or c.kind
    if key then
      local met = service.second and c.name_b or not service.second and c.name_a
      service.name = c.name or met or names[service.address] or own_names[key] or nil
    else
      service.name = c.name
      if c.port_a == c.port_b then service.port = c.port_a end
    end
  end
  return told
end

return naming
