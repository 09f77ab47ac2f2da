-- name: dns,names
-- title: DNS names
-- description: Which names are asked for, with what success, and how long do the answers take?
--     A row has the queries for a name and type that were answered with the same response code; one without a code has
--     those that nobody answered. A query that is sent again within five seconds is a retransmission, as tshark tells.
--     Names are in lower case, since their case means nothing. Of several questions in one message the first counts.
--     Multicast DNS and LLMNR are not in it, as they are not in `dns,tree`. Once `max` names and types have rows, all
--     further ones are in a row with the name (other).
-- parameter: max integer 100000 how many names and types have rows of their own
-- column: name text key ; as asked for, in lower case
-- column: type text key ; of the records asked for
-- column: response_code text key ; nothing where nobody answered
-- column: queries integer sum packets ; without retransmissions
-- column: retransmissions integer sum packets ; the same query once more
-- column: responses integer sum packets ; also those to queries that were not captured, and repeated ones
-- column: unanswered integer sum packets ; queries without a response in the capture
-- column: timed integer sum hidden ; responses whose query was captured
-- column: time duration sum seconds hidden ; from query to response, all together
-- column: min_time duration min seconds ; from query to response
-- column: mean_time duration time/timed seconds
-- column: max_time duration max seconds
-- sort: queries descending, responses descending, name, type, response_code
-- field: dns.flags
-- field: dns.id
-- field: dns.count.queries
-- field: dns.qry.name
-- field: dns.qry.type
-- field: dns.response_to
-- field: dns.retransmit_request_in
-- layer: messages

if __DIR__ then package.path = __DIR__ .. "?.lua;" .. package.path end
local sharkstat = require "sharkstat"
local rows = require "rows"

local moment = sharkstat.moment

local CODES = {
  [0] = "NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED", "YXDOMAIN", "YXRRSET", "NXRRSET", "NOTAUTH",
  "NOTZONE", "DSOTYPENI",
}
local RESPONSE = 0x8000

-- A table that has all of its keys from the beginning need not grow: a capture may hold many names.
local function new_code()
  return { queries = 0, retransmissions = 0, responses = 0, unanswered = 0, timed = 0, time = 0, least = nil, most = nil }
end

sharkstat.tap(__FILE__, function(run)
  local flags, ids, counts = sharkstat.field "dns.flags", sharkstat.field "dns.id", sharkstat.field "dns.count.queries"
  local names, types = sharkstat.field "dns.qry.name", sharkstat.field "dns.qry.type"
  local response_to = sharkstat.field "dns.response_to"
  local request_in = sharkstat.field "dns.retransmit_request_in"

  local max = run.parameters.max
  local asked = rows.new(max, function(name, kind) return { name = name or "(other)", kind = kind, codes = {} } end)

  local words = {}
  local function type_name(field)
    local number = field.value
    local word = words[number]
    if not word then
      word = field.display:match("^(%S+)")
      if not word or word == "Unknown" then word = ("TYPE%.0f"):format(number) end
      words[number] = word
    end
    return word
  end

  local function at_code(entry, code)
    local found = entry.codes[code]
    if not found then
      found = new_code()
      entry.codes[code] = found
    end
    return found
  end

  local function entry_of(name, kind)
    return asked:at(name and name.value:lower(), kind and type_name(kind))
  end

  -- By the packet of the query; where it holds several, by packet and transaction.
  local function give_up(query, entry)
    local row = at_code(entry or query.entry, "")
    row.queries, row.unanswered = row.queries + 1, row.unanswered + 1
    row.retransmissions = row.retransmissions + query.again
  end
  local waiting = rows.waiting(max, give_up)

  local function query_message(key, time, name, kind, repeats, id)
    if not repeats then
      return waiting:put(key, { entry = entry_of(name, kind), time = time, again = 0 })
    end
    local number = repeats.value
    local query = waiting:find(number) or waiting:find(number .. ":" .. id)
    if query then
      query.again = query.again + 1
    else
      local row = at_code(entry_of(name, kind), "")
      row.retransmissions = row.retransmissions + 1
    end
  end

  local function response_message(time, bits, query, name, kind)
    local code = CODES[bits % 16] or ("RCODE%.0f"):format(bits % 16)
    local row = at_code(query and query.entry or entry_of(name, kind), code)
    row.responses = row.responses + 1
    if query then
      row.queries, row.retransmissions = row.queries + 1, row.retransmissions + query.again
      rows.time(row, time - query.time)
    end
  end

  -- Several messages in one packet (DNS over TCP): questions are dealt out by their counts; the rest, which tshark
  -- lays over the message itself, by where the message begins (behind the length, over TCP).
  local function several(pinfo)
    local packet, _, time = moment(pinfo)
    local all_names, all_types, all_counts, all_ids = { names() }, { types() }, { counts() }, { ids() }
    local function by_start(field)
      local found = {}
      for _, value in ipairs { field() } do
        local start = value.offset
        found[start] = found[start] or {}
        table.insert(found[start], value)
      end
      return function(start)
        local here = found[start] or found[start - 2]
        return here and table.remove(here, 1)
      end
    end
    local to, requests = by_start(response_to), by_start(request_in)
    local at = 1
    for index, field in ipairs { flags() } do
      local id, count = all_ids[index], all_counts[index] and all_counts[index].value or 0
      local name, kind
      if count > 0 then name, kind = all_names[at], all_types[at] end
      at = at + count
      if field.value < RESPONSE then
        query_message(packet .. ":" .. id.value, time, name, kind, requests(id.offset), id.value)
      else
        local query = to(id.offset)
        query = query and (waiting:take(query.value) or waiting:take(query.value .. ":" .. id.value))
        response_message(time, field.value, query, name, kind)
      end
    end
  end

  run:listen("frame", function(pinfo)
    local first, second = flags()
    if second then return several(pinfo) end
    if not first then return end  -- cut short
    local bits, packet, _, time = first.value, moment(pinfo)
    if bits < RESPONSE then
      local repeats = request_in()
      return query_message(packet, time, names(), types(), repeats, repeats and ids().value)
    end
    local number, query = response_to(), nil
    if number then
      number = number.value
      query = waiting:take(number) or waiting:take(number .. ":" .. ids().value)
    end
    if query then return response_message(time, bits, query) end
    response_message(time, bits, nil, names(), types())
  end, "dns && !icmp && !icmpv6")  -- an error quotes what was said before

  return function()
    local result, of = asked:result(run)
    for query in waiting:each() do give_up(query, of(query.entry)) end
    for entry in result:each() do
      for code, row in pairs(entry.codes) do
        run:row {
          entry.name, entry.kind, code ~= "" and code or nil, row.queries, row.retransmissions, row.responses,
          row.unanswered, row.timed, row.time, row.least, row.most,
        }
      end
    end
  end
end)
