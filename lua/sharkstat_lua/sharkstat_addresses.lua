-- The addresses of a packet's headers, in digits, and the names that tshark has for them. A part of the library
-- (sharkstat.lua): it brings these functions into it.

return function(sharkstat, Run)
  local WORDS = { Broadcast = "ff:ff:ff:ff:ff:ff" }
  local ADDRESS_FIELDS = { "eth.src", "eth.dst", "ip.src", "ip.dst", "ipv6.src", "ipv6.dst" }
  local address_fields = {}
  local names = {}

  -- Tells the library that tshark resolves names (-N), so that digits must come from fields.
  function sharkstat.use_names()
    sharkstat.resolving = true
    for index, name in ipairs(ADDRESS_FIELDS) do address_fields[index] = sharkstat.field(name) end
  end

  -- The address in digits. With name resolution on, tostring() gives the name: the digits are then
  -- those of the packet's field that holds the same address, and the name is kept for the host.
  function Run:address(address)
    local text = tostring(address)
    if not sharkstat.resolving then return WORDS[text] or text end
    for _, field in ipairs(address_fields) do
      for _, found in ipairs { field() } do
        if found.value == address then
          local digits = sharkstat.digits(found)
          if digits ~= text then names[digits] = text end
          return digits
        end
      end
    end
    return WORDS[text] or text
  end

  -- The digits of a field that holds an address, whatever names are resolved: `display` and tostring() of the
  -- value hold names, tostring() of the field does not.
  sharkstat.digits = tostring

  function sharkstat.names() return names end

  function sharkstat.keep_name(digits, name)
    if name ~= digits then names[digits] = name end
  end

  local TAP_ADDRESSES = { eth = { "src", "dst" }, ip = { "ip_src", "ip_dst" }, wlan = { "src", "dst" } }
  -- Those whose addresses are the packet's own of the link, which nothing above it changes.
  local OF_LINK = { bluetooth = true, fddi = true, sll = true, tr = true }

  -- Whether tshark tells Lua the addresses that a tap announces.
  function sharkstat.tells_ends(tap) return TAP_ADDRESSES[tap] ~= nil or OF_LINK[tap] ~= nil end

  -- For the taps of addresses alone: a function of (info, pinfo) that gives the source and destination, in
  -- digits, of the header that is announced. tshark gives Lua no tap info for ipv6, ipx and usb: there the fields
  -- are read, in order. They also hold the headers that an ICMP error quotes, but behind those that are announced.
  function Run:ends_of(tap)
    if OF_LINK[tap] then
      return function(_, pinfo) return self:address(pinfo.dl_src), self:address(pinfo.dl_dst) end
    end
    local keys = TAP_ADDRESSES[tap]
    if keys then
      local source_key, destination_key = keys[1], keys[2]
      if sharkstat.resolving then
        return function(info) return self:address(info[source_key]), self:address(info[destination_key]) end
      end
      if tap == "ip" then  -- no word stands for an IPv4 address
        return function(info) return tostring(info.ip_src), tostring(info.ip_dst) end
      end
      return function(info)
        local source, destination = tostring(info[source_key]), tostring(info[destination_key])
        return WORDS[source] or source, WORDS[destination] or destination
      end
    end
    local sources, destinations = sharkstat.field(tap .. ".src"), sharkstat.field(tap .. ".dst")
    if sharkstat.resolving then
      address_fields[#address_fields + 1] = sources
      address_fields[#address_fields + 1] = destinations
    end
    local packet, nth = -1, 0
    return function(_, pinfo)
      local number = pinfo.number
      if number == packet then nth = nth + 1 else packet, nth = number, 1 end
      local source, destination
      if nth == 1 then
        source, destination = sources(), destinations()
      else
        source, destination = select(nth, sources()), select(nth, destinations())
      end
      return self:address(source.value), self:address(destination.value)
    end
  end

  -- For sctp and dccp, of which tshark tells Lua nothing: the fields with their ports and, where there is one, number.
  local PORTS = { sctp = { "sctp.srcport", "sctp.dstport" }, dccp = { "dccp.srcport", "dccp.dstport", "dccp.stream" } }

  -- A function of pinfo that gives source, port, destination, port and number (0 where there is none) of the header that is
  -- announced.
  function Run:ports_of(tap)
    local extractors = {}
    for index, name in ipairs(PORTS[tap]) do extractors[index] = sharkstat.field(name) end
    local packet, nth = -1, 0
    local function value(extractor)
      local found = select(nth, extractor())
      return found and found.value
    end
    return function(pinfo)
      local number = pinfo.number
      if number == packet then nth = nth + 1 else packet, nth = number, 1 end
      return self:address(pinfo.src), value(extractors[1]), self:address(pinfo.dst), value(extractors[2]),
        extractors[3] and value(extractors[3]) or 0
    end
  end
end
