-- name: dns,names
-- title: DNS names
-- description: Which DNS names are queried, do the queries succeed, and how long do the answers take?
--     One row per name, record type and response code; queries without a response have a row without a code. A response
--     is matched to the query on the same connection with the same transaction ID, name and type. A query repeated
--     within five seconds, before its answer, counts as a retransmission. Names are converted to lower case. If a message
--     has several questions, the first one counts. As in `dns,tree`, mDNS and LLMNR are not included.
-- parameter: max integer 100000 maximum number of rows; further names and types share the row (other)
-- column: name text key ; queried name, in lower case
-- column: type text key ; record type
-- column: response_code text key ; empty for queries without a response
-- column: queries integer sum packets ; without retransmissions
-- column: retransmissions integer sum packets ; repeated queries
-- column: responses integer sum packets ; including repeated ones, and those to queries that were not captured
-- column: unanswered integer sum packets ; queries without a response in the capture
-- column: timed integer sum hidden ; responses whose query was captured
-- column: time duration sum seconds hidden ; total time from query to response
-- column: min_time duration min seconds ; from query to response
-- column: mean_time duration time/timed seconds
-- column: p50_time duration p50:times/min_time/max_time seconds title="p50 time"
-- column: p95_time duration p95:times/min_time/max_time seconds title="p95 time"
-- column: p99_time duration p99:times/min_time/max_time seconds title="p99 time"
-- column: max_time duration max seconds
-- column: times set sketch hidden ; sketch of these times: p50, p95 and p99 are within 1 %, and exact for up to 100
-- section: 500 title=DNS rows=4 columns=name,type,response_code=answer,queries,unanswered,mean_time=mean,max_time=max
-- finding: unanswered/queries warning=0.02 bad=0.2 worst=name DNS queries without an answer
-- sort: queries descending, responses descending, name, type, response_code
-- field: dns.flags
-- field: dns.id
-- field: dns.count.queries
-- field: dns.qry.name
-- field: dns.qry.type
-- field: tcp.stream
-- field: udp.stream
-- layer: messages

package.path = (__DIR__ or debug.getinfo(1, "S").source:match("@(.*[/\\])")) .. "?.lua;" .. package.path
local sharkstat = require "sharkstat"
local rows = require "rows"
local networks = require "networks"
local layers = require "layers"

local moment, elapsed = sharkstat.moment, sharkstat.elapsed

local CODES = {
  [0] = "NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED", "YXDOMAIN", "YXRRSET", "NXRRSET", "NOTAUTH",
  "NOTZONE", "DSOTYPENI",
}
local RESPONSE = 0x8000
-- After so long, the same query is another one.
local AGAIN = 5e9

-- A table that has all of its keys from the beginning need not grow: a capture may hold many names.
local function new_code()
  return { queries = 0, retransmissions = 0, responses = 0, unanswered = 0, timed = 0, time = 0, least = nil, most = nil, times = nil }
end

sharkstat.tap(__FILE__, function(run)
  local flags, ids, counts = sharkstat.field "dns.flags", sharkstat.field "dns.id", sharkstat.field "dns.count.queries"
  local names, types = sharkstat.field "dns.qry.name", sharkstat.field "dns.qry.type"
  local tcp_streams, udp_streams = sharkstat.field "tcp.stream", sharkstat.field "udp.stream"

  local asked = rows.new(run, function(name, kind) return { name = name or sharkstat.OTHER, kind = kind, codes = {} } end)

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

  local function give_up_one(query, entry)
    local row = at_code(entry or query.entry, "")
    row.queries, row.unanswered = row.queries + 1, row.unanswered + 1
    row.retransmissions = row.retransmissions + query.again
  end

  -- The queries that wait, by connection and transaction. A client may use a number again: then the queries with that
  -- number form a chain, the newest first.
  local waiting = rows.requests(run, function(query)
    while query do
      give_up_one(query)
      query = query.older
    end
  end)

  -- What tells the transactions of a connection from those of all others. Inside of a tunnel the last stream counts.
  local function last_of(streams)
    local first, second = streams()
    if second then
      for _, found in ipairs { streams() } do first = found end
    end
    return first
  end
  run.reads = { protocols = { "dns", "mdns", "llmnr" }, whole = "dns.qry.type && !tcp" }
  local of_tcp, of_udp = networks.of(run, "tcp"), networks.of(run, "udp")
  networks.watch(run, "tcp", "queries and responses over TCP may be missing", 53, true)
  local function connection(pinfo, virtual)
    local udp, tcp = last_of(udp_streams), last_of(tcp_streams)
    if tcp and (not udp or tcp.offset > udp.offset) then
      return -1 - of_tcp:key(tcp.value, pinfo, virtual)
    end
    return udp and of_udp:key(udp.value, pinfo, virtual) or 0
  end

  -- The query of a chain that asks for this, and the one before it in the chain.
  local function find(query, entry)
    local newer
    while query and query.entry ~= entry do newer, query = query, query.older end
    return query, newer
  end

  local function take(key, query, newer)
    if newer then
      newer.older = query.older
    else
      waiting:take(key)
      if query.older then waiting:put(key, query.older) end
    end
  end

  local function query_message(key, time, entry)
    local head = waiting:find(key)
    local query = { entry = entry, time = time, again = 0, older = head }
    if head then
      local before, newer = find(head, entry)
      if before and elapsed(before.time, time) < AGAIN then
        before.again = before.again + 1
        return
      end
      if before then
        give_up_one(before)
        if newer then newer.older = before.older else query.older = before.older end
      end
      waiting:take(key)
    end
    waiting:put(key, query)
  end

  local function response_message(key, time, bits, name, kind)
    local head, entry = waiting:find(key), name and entry_of(name, kind)
    local query, newer = head, nil
    if head and entry and head.entry ~= entry then query, newer = find(head, entry) end
    local code = CODES[bits % 16] or ("RCODE%.0f"):format(bits % 16)
    local row = at_code(query and query.entry or entry or entry_of(), code)
    row.responses = row.responses + 1
    if query then
      take(key, query, newer)
      row.queries, row.retransmissions = row.queries + 1, row.retransmissions + query.again
      rows.time_in_sketch(row, elapsed(query.time, time))
    end
  end

  -- Several messages in one packet (DNS over TCP): questions are dealt out by their counts.
  local function several(pinfo, virtual)
    local _, _, time = moment(pinfo)
    local stream = connection(pinfo, virtual) * 65536
    local all_names, all_types, all_counts, all_ids = { names() }, { types() }, { counts() }, { ids() }
    local at = 1
    for index, field in ipairs { flags() } do
      local key, count = stream + all_ids[index].value, all_counts[index] and all_counts[index].value or 0
      local name, kind
      if count > 0 then name, kind = all_names[at], all_types[at] end
      at = at + count
      if field.value < RESPONSE then
        query_message(key, time, entry_of(name, kind))
      else
        response_message(key, time, field.value, name, kind)
      end
    end
  end

  of_udp:listen("frame", function(pinfo, _, _, virtual)
    local first, second = flags()
    if second then return several(pinfo, virtual) end
    if not first then return end  -- cut short
    local bits, _, _, time = first.value, moment(pinfo)
    local key = connection(pinfo, virtual) * 65536 + ids().value
    if bits < RESPONSE then
      query_message(key, time, entry_of(names(), types()))
    else
      response_message(key, time, bits, names(), types())
    end
  end, "dns && !icmp && !icmpv6", layers.unquoted "dns")

  return function()
    local result, of = asked:result(run)
    for query in waiting:each() do
      while query do
        give_up_one(query, of(query.entry))
        query = query.older
      end
    end
    for entry in result:each() do
      for code, row in pairs(entry.codes) do
        run:row {
          entry.name, entry.kind, code ~= "" and code or nil, row.queries, row.retransmissions, row.responses,
          row.unanswered, row.timed, row.time, row.least, row.most, row.times,
        }
      end
    end
  end
end)
