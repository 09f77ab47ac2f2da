-- name: icmp,errors
-- title: ICMP errors
-- description: Which packets could not be delivered, where to, and which router or host reports it? ICMP and ICMPv6
--     errors by reporter, error, and the packet they quote: its sender, destination and port. In a tunnel, the reporter
--     is the sender of the inner header that carries the error, not the tunnel endpoint. If a tunneled packet is quoted,
--     its outermost header counts.
-- split: hosts
-- column: reporter address key; sender of the error
-- column: version integer key hidden; IP version of the error
-- column: type integer key hidden
-- column: code integer key hidden
-- column: sender address key; sender of the quoted packet
-- column: destination address key; destination of the quoted packet
-- column: tcp_port integer key dynamic title="TCP port"; destination port of the quoted packet
-- column: udp_port integer key dynamic title="UDP port"; destination port of the quoted packet
-- column: errors integer sum packets
-- column: first_seen time min hidden
-- column: last_seen time max hidden
-- sort: errors descending, reporter, version, type, code, sender, destination, tcp_port, udp_port
-- field: frame.protocols
-- field: icmp.type
-- field: icmp.code
-- field: icmpv6.type
-- field: icmpv6.code
-- field: ip.src
-- field: ip.dst
-- field: ipv6.src
-- field: ipv6.dst
-- field: tcp.dstport
-- field: udp.dstport
-- order: any
-- layer: transport

if __DIR__ then package.path = __DIR__ .. "?.lua;" .. package.path end
local sharkstat = require "sharkstat"
local rows = require "rows"

local moment = sharkstat.moment

local ERRORS_4 = { [3] = true, [4] = true, [5] = true, [11] = true, [12] = true }
local ERRORS_6 = { true, true, true, true }
local ERRORS = "icmp.type in {3, 4, 5, 11, 12} || icmpv6.type in {1, 2, 3, 4}"

sharkstat.tap(__FILE__, function(run)
  local protocols = sharkstat.field "frame.protocols"
  local sources = { ip = sharkstat.field "ip.src", ipv6 = sharkstat.field "ipv6.src" }
  local targets = { ip = sharkstat.field "ip.dst", ipv6 = sharkstat.field "ipv6.dst" }
  local kinds = { icmp = sharkstat.field "icmp.type", icmpv6 = sharkstat.field "icmpv6.type" }
  local codes = { icmp = sharkstat.field "icmp.code", icmpv6 = sharkstat.field "icmpv6.code" }
  local ports = { tcp = sharkstat.field "tcp.dstport", udp = sharkstat.field "udp.dstport" }

  local function is_error(field, errors)
    for _, found in ipairs { field() } do
      if errors[found.value] then return true end
    end
    return false
  end

  local function nth(field, number)
    local found = number and select(number, field())
    return found and found.value
  end
  local function address(field, number)
    local value = nth(field, number)
    return value and run:address(value)
  end

  -- Where things are: the header that carries the error, the first that it quotes, and the quoted ports, each by its
  -- protocol and its number among the packet's headers of that protocol.
  local function look(path)
    local seen, error_kind = {}, nil
    local carrier, quoted, quoted_ports = nil, nil, {}
    for name in path:gmatch("[^:]+") do
      seen[name] = (seen[name] or 0) + 1
      if sources[name] then
        if not error_kind then
          carrier = { name, seen[name] }
        else
          quoted = quoted or { name, seen[name] }
        end
      elseif kinds[name] then
        error_kind = error_kind or name
      elseif ports[name] and quoted then
        quoted_ports[name] = quoted_ports[name] or seen[name]
      end
    end
    return error_kind, carrier, quoted, quoted_ports
  end

  local errors = rows.new(math.huge, function(reporter, version, kind, code, sender, destination, tcp_port, udp_port)
    return { reporter, version, kind, code, sender, destination, tcp_port, udp_port, 0, false, false }
  end)

  run:listen("frame", function(pinfo)
    if not (is_error(kinds.icmp, ERRORS_4) or is_error(kinds.icmpv6, ERRORS_6)) then return end
    local error_kind, carrier, quoted, quoted_ports = look(protocols().value)
    if not error_kind then return end
    local _, _, time = moment(pinfo)
    local row = errors:at(
      carrier and address(sources[carrier[1]], carrier[2]), carrier and carrier[1] == "ipv6" and 6 or 4,
      nth(kinds[error_kind], 1), nth(codes[error_kind], 1),
      quoted and address(sources[quoted[1]], quoted[2]), quoted and address(targets[quoted[1]], quoted[2]),
      nth(ports.tcp, quoted_ports.tcp), nth(ports.udp, quoted_ports.udp))
    row[9] = row[9] + 1
    if not row[10] or time < row[10] then row[10] = time end
    if not row[11] or time > row[11] then row[11] = time end
  end, ERRORS, function(path) return path.quoting end)

  return function()
    for row in errors:each() do run:row(row) end
  end
end)
