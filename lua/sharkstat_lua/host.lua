-- Runs inside tshark for sharkstat: reads the job that sharkstat wrote, starts what it asks for, and
-- sends records, one a line, values parted by tabs (sharkstat.escape), to the pipe that the job names:
--
--   H version                         the taps are ready: every filter and field was taken
--   E run message packet traceback    a run failed (run "-": the display filter)
--   C run column...                   the columns of a run's rows: name, space, type
--   F name type                       a declared field's type, as tshark calls it
--   R run value...                    a row
--   Q count run value...              what so many more rows add up to, which have no row of their own
--   W run text lacks                  a remark on a run's rows; whether something is counted wrong, or not at all (1 or 0)
--   O run                             a run's rows or sets are not all that there are
--   D run rows [more replaced totals...]
--                                     the end of a run's rows; where only the first were sent (first_rows.lua): how many
--                                     more there are, and what is known of all
--   J run rows                        so many rows are a part of the result, and are not sent again
--   G flow address port address port first last
--                                     a connection, by the number that the last value of rows has with "flows"
--   P number length time hits... fields...   a packet for Python
--   S number                          packets before this one are of no use to Python ("prompt" alone)
--   A digits name                     an address with the name that tshark gave it
--   U run packet                      what tshark prints for a run may mislead, because of this packet
--   B packets bytes first last unordered lateness cut timeless headless
--                                     what was read; how many packets came after a later one, by how much at most, how
--                                     many were captured only in part, how many have no time, and how many are cut before
--                                     the end of their network header
--   T relative since                  the first packet's time since the capture's first, and since 1970
--   X first                           there are times that only the fields hold: read again, with "exact FIRST"
--   L                                 packets are cut: read again, with "cut"
--   I                                 the first packets are in no virtual network, and others are: read again, with
--                                     "networks"
--   N run skipped partial             of the packets that are cut, so many are not counted, and so many only in part
--   M packets last                    so many packets before the last one, of that number, were announced to nobody
--   Y word...                         what is to be known of a shard (shards.lua)
--   K kind                            what is read is no capture, but a file of that kind
--   V                                 the end of a snapshot: C to B before it are the results so far
--   Z                                 the end: without it, the results are not whole
--
-- What the pipe of "watch" says, a line each: "G NUMBER", up to the packet of that number nothing has to be asked; "S", a
-- snapshot is wanted.
--
-- The job: "rows PATH", "filter TEXT", "names", "prompt" (a record is sent at once),
-- "marks NONCE" (print marks around tshark's own statistics), "check ID FILTER" (is it one?),
-- "doubt ID FILTER" (packets to tell of), "stranger" (what is read may be no capture), "load FILE", "run ID NAME ARGUMENTS",
-- "top ID COUNT ..." (only the first rows of a run are wanted: first_rows.lua), "flows" (rows are kept apart by connection),
-- "cut" (packets may be cut), "whole" (if any is, tell), "partial ID FILTER PROTOCOL..." (a run counts what
-- packets that the filter takes say above their headers; of these protocols, where they are known), "streams ID FILTER PROTOCOLS [apart]" (a
-- run, or tshark's own statistic of those packets, depends on which packets are those of one connection), "networks" (some packets are in
-- virtual networks, and some in none), "keys" (tshark may decrypt), "exact FIRST" (times
-- from fields; FIRST as of X), "watch PATH" (a pipe that says when a snapshot is wanted),
-- "since TIME" (when the whole capture begins, of which this is a shard), "shard plain|rest PROTOCOL..." (what it is;
-- protocols whose streams are to be told), "listen ID TAP FILTER KEY...", "field NAME", one a line, in the same form.

package.path = (__DIR__ or debug.getinfo(1, "S").source:match("@(.*[/\\])")) .. "?.lua;" .. package.path
-- Taps that are installed for all users have brought theirs, which may be of another version.
for _, name in ipairs {
  "sharkstat", "sharkstat_addresses", "sharkstat_cut", "sharkstat_exact", "sharkstat_fields", "sharkstat_header",
  "sharkstat_sharing", "group_keys",
  "group_measures", "group_writer", "http_frames", "http_streams", "layers", "packet_requests", "path_template", "rows", "server", "shards", "service_names", "service_packets",
  "service_intervals", "service_sums", "intervals",
  "talks", "tcp_streams", "tree", "unrecognized", "values", "networks", "flows",
  "sketch", "distinct", "frequent", "histogram",
} do
  package.loaded[name] = nil
end
local sharkstat = require "sharkstat"
local exact = require "sharkstat_exact"

local job_path = ...
local concat = table.concat

local unescapes = { ["\\"] = "\\", t = "\t", n = "\n", r = "\r" }
local function unescape(text)
  return (text:gsub("\\(.)", unescapes))
end

local jobs = {}
for line in io.lines(job_path) do
  local words = {}
  for word in (line .. "\t"):gmatch("(.-)\t") do words[#words + 1] = unescape(word) end
  jobs[#jobs + 1] = words
end

local out, first_path
local control  -- what asks for snapshots
local function send(...)
  local words = { ... }
  for index = 1, select("#", ...) do words[index] = sharkstat.escape(words[index]) end
  out:write(concat(words, "\t"), "\n")
end

local function fail(id, failure)
  send("E", id, failure.message, failure.packet or "", failure.traceback or "")
end

sharkstat.hosted = true
package.loaded.sharkstat = sharkstat

local runs, listens, fields, named, firsts = {}, {}, {}, {}, {}
local flows  -- the module, where rows are kept apart by connection

-- Values are escaped as they are written; a path's levels are parted by the character 0x1f.
local cells = {} -- of a row: one list for all of them, or a table with many rows leaves as many lists to the collector
local function write_row(run, values, head)
  local count = #run.columns
  for index = 1, count do
    local value = values[index]
    local made = type(value) == "table" and getmetatable(value)
    if made and made.texts then value = made.texts(value) end -- a sketch: only of rows that are sent
    if made and made.safe then
      cells[index] = concat(value, "\31")
    elseif type(value) == "table" and not exact.is_whole(value) then
      local levels = {}
      for at, level in ipairs(value) do levels[at] = sharkstat.escape(level):gsub("\31", "\\u") end
      if value.full then run.capped = true end
      cells[index] = concat(levels, "\31")
    else
      cells[index] = sharkstat.escape(value)
    end
  end
  if flows then
    count = count + 1
    cells[count] = sharkstat.escape(values.flow)
  end
  out:write(head or "R\t", run.id, "\t", concat(cells, "\t", 1, count), "\n")
end

local function write_rest(run, values, count)
  run.capped = true
  write_row(run, values, ("Q\t%.0f\t"):format(count))
end

local function emit(run, values, others)
  if others then return write_rest(run, values, others) end
  local first = run.first_rows
  if first and first.active then return first:offer(run, values) end
  write_row(run, values)
end

local function attempt(id, action)
  local fine, problem = xpcall(action, function(message)
    return { message = tostring(message), traceback = debug and debug.traceback() or "" }
  end)
  if not fine then
    fail(id, problem)
    return false
  end
  return true
end

-- Runs a tap's file as tshark would: with globals of its own, its __DIR__ among them. (tshark has
-- its own loadfile and dofile, which take no environment.)
local function load_tap(path)
  local own = setmetatable({ __FILE__ = path, __DIR__ = path:match("^(.*[/\\])") or "" }, { __index = _ENV })
  local file = assert(io.open(path, "r"))
  local chunk, problem = load(file:read("*a"), "@" .. path, "t", own)
  file:close()
  if not chunk then error(problem, 0) end
  chunk()
end

local function tell_columns(run)
  local names = {}
  for index, column in ipairs(run.columns) do names[index] = column[1] .. " " .. column[2] end
  send("C", run.id, table.unpack(names))
end

local ready = true
local function start_run(id, name, arguments)
  ready = attempt(id, function()
    local statistic = sharkstat.registered[name]
    if not statistic then error("no tap registers " .. name, 0) end
    local run = sharkstat.start(statistic, arguments, emit)
    run.id, run.redrawn = id, control ~= nil
    -- The rows that were emitted since the last result are a part, which Python keeps from now on.
    function run.part()
      tell_columns(run)
      send("J", id, run.rows)
      run.rows = 0
    end
    local wanted = firsts[id]
    if wanted then run.first_rows = require "first_rows"(run, tonumber(wanted[3]), wanted[4], { table.unpack(wanted, 5) }) end
    runs[#runs + 1] = run
  end) and ready
end

-- tshark takes a bad filter of some of its own statistics without a word, so each is tried here first.
local function check(id, filter)
  ready = attempt(id, function() Listener.new("frame", filter):remove() end) and ready
end

-- Tells of the first packet that a filter takes. A field that this tshark has not can be in no packet.
local function doubt(id, filter)
  local told = false
  pcall(sharkstat.share, "frame", filter, function(pinfo)
    if not told then send("U", id, pinfo.number) end
    told = true
  end)
end

-- tshark opens files of many kinds as if they were captures of one packet.
local NO_CAPTURE = {
  BER = "a BER file", JPEG_JFIF = "a picture", JSON = "JSON", MIME = "a file of another kind", MP4 = "a film",
  MPEG = "sound or a film", MPEG_2_TS = "a film", RFC7468 = "a PEM file", RUBY_MARSHAL = "a file of Ruby's",
  SYSTEMD_JOURNAL = "a systemd journal", TNEF = "a file of Outlook's",
}
for form in ("BRIEF LONG PROCESS TAG THREAD THREADTIME TIME"):gmatch("%u+") do
  NO_CAPTURE["LOGCAT_" .. form] = "a log of Android's"
end
local function refuse_strangers()
  local kinds, told = {}, false
  for name, kind in pairs(NO_CAPTURE) do
    if wtap_encaps[name] then kinds[wtap_encaps[name]] = kind end
  end
  local encapsulation = sharkstat.field("frame.encap_type")
  sharkstat.share("frame", nil, function()
    local kind = kinds[encapsulation().value]
    if kind and not told then
      told = true
      send("K", kind)
      out:flush()
    end
  end)
end

-- tshark draws its statistics one after the other, in the reverse order of their -z: a listener that is made
-- between two of them draws between them.
local function print_marks(nonce)
  register_stat_cmd_arg("sharkstat,mark", function(argument)
    local mark = Listener.new("ipx")  -- one that is seldom called, and no filter: a field in one changes io,phs and expert
    function mark.draw()
      io.stdout:write("\n", nonce, " ", argument:match("%d+$"), "\n")
      io.stdout:flush()
    end
  end)
end

-- A tap runs only when a packet comes, and a snapshot is wanted when none comes, too. So who writes packets into tshark's
-- standard input says beforehand how many there are: at the last of them this waits for what is said next, which may be
-- that a snapshot is wanted. That is after all taps have counted the packet: tshark announces "frame" last, and calls the
-- listeners of one tap in the reverse order of their making. So one must be there before all others.
local next_stop = 0
local report
local function pace(pinfo)
  local number = pinfo.number
  while number >= next_stop do
    local said = control:read("*l")
    if not said then
      next_stop = math.huge
    elseif said == "S" then
      report()
      out:write("V\n")
      out:flush()
    else
      next_stop = tonumber(said:match("%d+"))
    end
  end
end

local starts, prompt = {}, false
local tells_of_cut, partials, of_streams, texts = false, {}, {}, {}
local end_of_shard, saved_since
for _, words in ipairs(jobs) do
  local verb = words[1]
  if verb == "rows" then
    out = assert(io.open(words[2], "w"))
    out:setvbuf("full", 65536)
  elseif verb == "first" then
    first_path = words[2]
  elseif verb == "watch" then
    control = assert(io.open(words[2], "r"))
    sharkstat.share("frame", nil, function() end)
  elseif verb == "filter" then
    sharkstat.display_filter = words[2]
  elseif verb == "prompt" then
    out:setvbuf("line")
    prompt = true
  elseif verb == "exact" then
    sharkstat.use_exact_times(words[2] and exact.number(words[2]))
  elseif verb == "since" then
    sharkstat.later = function(pinfo) return saved_since(pinfo, words[2]) end
  elseif verb == "shard" then
    end_of_shard = require("shards").watch(words[2] == "plain", { table.unpack(words, 3) }, function(...) send("Y", ...) end)
  elseif verb == "stranger" then
    refuse_strangers()
  elseif verb == "cut" then
    sharkstat.cut = true
  elseif verb == "whole" then
    tells_of_cut = true
  elseif verb == "partial" then
    partials[#partials + 1] = { id = words[2], filter = words[3], protocols = { table.unpack(words, 4) } }
    sharkstat.cut_matters = true
  elseif verb == "streams" then
    of_streams[words[2]] = {
      filter = words[3], protocols = words[4], one = not words[4]:find(" "), apart = words[5] == "apart",
    }
  elseif verb == "networks" then
    require("networks").all = true
  elseif verb == "keys" then
    sharkstat.has_keys = true
  elseif verb == "names" then
    sharkstat.use_names()
  elseif verb == "flows" then
    flows = require "flows"
  elseif verb == "marks" then
    print_marks(words[2])
  elseif verb == "check" then
    check(words[2], words[3])
  elseif verb == "doubt" then
    doubt(words[2], words[3])
  elseif verb == "load" then
    ready = attempt("load " .. words[2], function() load_tap(words[2]) end) and ready
  elseif verb == "run" then
    starts[#starts + 1] = words
  elseif verb == "top" then
    firsts[words[2]] = words
  elseif verb == "listen" then
    listens[#listens + 1] = { id = words[2], tap = words[3], filter = words[4], keys = { table.unpack(words, 5) } }
  elseif verb == "field" then
    fields[#fields + 1] = words[2]
    named[words[2]] = words[3] == "named"
  end
end

-- The books: every packet that the statistics may see, their first and last time, and what is wrong with them.
local packets, bytes, first, last = 0, 0, nil, nil
local unordered, lateness, cut = 0, 0, 0
local relative_ns, moment = sharkstat.relative_ns, sharkstat.moment

-- Lua's times of a packet are doubles, which hold too few digits of an absolute time. A file that tshark
-- itself writes has them all, and costs one packet, where a field costs every packet.
local function saved_time(pinfo)
  local kind = wtap_name_to_file_type_subtype("nsecpcap")
  local dumper = Dumper.new_for_current(first_path, kind)
  dumper:dump_current()
  dumper:close()
  local file = assert(io.open(first_path, "rb"))
  local head = file:read(32)
  file:close()
  local little = head:byte(1) == 0x4d -- draft-ietf-opsawg-pcap, sections 4 and 5
  local function word(at)
    local a, b, c, d = head:byte(at, at + 3)
    if little then a, b, c, d = d, c, b, a end
    return ((a * 256 + b) * 256 + c) * 256 + d
  end
  -- The file holds the seconds modulo 2^32.
  local secs, nsecs = word(25), word(29)
  if nsecs >= 2 ^ 31 then nsecs = nsecs - 2 ^ 32 end  -- what a damaged file says
  return exact.of_seconds(secs + math.floor((pinfo.abs_ts - secs) / 2 ^ 32 + 0.5) * 2 ^ 32, nsecs)
end

-- How much later the first packet of a shard is than that of the capture, which came so many nanoseconds after 1970.
function saved_since(pinfo, since)
  return exact.elapsed(exact.number(since), saved_time(pinfo))
end

-- Seconds since 1970 beyond which a double does not say which 2^32 of them are meant.
local KNOWN = 2 ^ 50

local again_told, may_be_timeless = false, false
local function read_again(first)
  if again_told then return end
  again_told = true
  send("X", first)
  out:flush()
end

local function look_for_time(pinfo)
  local since = pinfo.abs_ts
  if since == 0 then return end
  local fine, first = false, nil
  if since < KNOWN and since > -KNOWN then fine, first = pcall(saved_time, pinfo) end
  read_again(fine and exact.integer(first) or nil)
end

-- Where the first packets may have no time, the first that has one says when the capture begins.
function sharkstat.too_far(pinfo)
  if pinfo.abs_ts == 0 and (packets == 0 or may_be_timeless) then
    may_be_timeless = true
  elseif may_be_timeless then
    look_for_time(pinfo)
  else
    read_again()
  end
end

-- The exact time of the first packet that anyone asks for, in nanoseconds since 1970; nil where it has none. The host
-- tells Python.
local told = false
function sharkstat.epoch(pinfo)
  local ns = relative_ns(pinfo)
  local since
  if sharkstat.exact then
    local field = sharkstat.field("frame.time_epoch")()
    since = field and exact.nanoseconds(field.value) or sharkstat.first
  elseif may_be_timeless then
    return exact.number(0) -- the run starts again
  else
    local fine = false
    if pinfo.abs_ts < KNOWN and pinfo.abs_ts > -KNOWN then fine, since = pcall(saved_time, pinfo) end
    if not fine then
      read_again()
      return exact.of_seconds(math.floor(pinfo.abs_ts), 0)
    end
  end
  if since and not told then
    told = true
    send("T", ns, since)
    if not sharkstat.exact then out:flush() end
  end
  return since
end

local headless = 0
local UP_TO_NETWORK = 118  -- bytes of the longest usual headers: Ethernet, IPv4, VXLAN, Ethernet, two VLANs, IPv6

local function note_cut(pinfo)
  cut = cut + 1
  if tells_of_cut and (sharkstat.cut_matters or pinfo.caplen < UP_TO_NETWORK) then
    tells_of_cut = false
    send("L")
    out:flush()
  end
end

-- tshark announces no packet in whose ICMP error a quoted header is cut or damaged.
local unannounced, newest = 0, 0
local function note_gap(pinfo)
  local number = pinfo.number
  if number > newest then
    unannounced, newest = unannounced + number - newest - 1, number
  end
end
if sharkstat.all_of(sharkstat.display_filter) then sharkstat.share("frame", nil, note_gap) end

local function keep_books(pinfo, _, _, number, length, time)
  if number == newest + 1 then newest = number else note_gap(pinfo) end
  bytes = bytes + length
  if pinfo.caplen < length then note_cut(pinfo) end
  if not told then
    if may_be_timeless then look_for_time(pinfo) else sharkstat.epoch(pinfo) end
  end
  if packets == 0 then
    first, last = time, time
  elseif time > last then
    last = time
  elseif time < last then
    unordered = unordered + 1
    local late = sharkstat.elapsed(time, last)
    if late > lateness then lateness = late end
    if time < first then first = time end
  end
  packets = packets + 1
end

if flows then ready = attempt("-", flows.want) and ready end

local books
ready = attempt("-", function()
  books = sharkstat.share("frame", sharkstat.all_of(sharkstat.display_filter), keep_books)
end) and ready

if sharkstat.cut then
  local truncated = require "sharkstat_cut"
  local protocols, over_4, over_6 = sharkstat.field "frame.protocols", sharkstat.field "ip.proto", sharkstat.field "ipv6.nxt"
  local source, target = sharkstat.field "udp.srcport", sharkstat.field "udp.dstport"
  sharkstat.share("frame", truncated.HEADLESS, function() headless = headless + 1 end)
  sharkstat.share("frame", truncated.BEHIND_NETWORK, function()
    local from, to, carried = source(), target(), over_4() or over_6()
    if truncated.in_tunnel(protocols().value, from and from.value, to and to.value, carried and carried.value) then
      headless = headless + 1
    end
  end)
end

for _, words in ipairs(starts) do start_run(words[2], words[3], words[4]) end

-- Where packets are cut: in how many of them a run may have lost something that it reads above the headers. What a tap
-- reads it says itself (run.reads), or counts (run.lost); of others the protocols are known whose fields they name.
local function count_lost(partial)
  local run
  for _, one in ipairs(runs) do run = one.id == partial.id and one or run end
  if run and run.lost then partial.count = run.lost end
  if partial.count then return end
  local named = #partial.protocols > 0 and partial.protocols[1] ~= "ports"
  local reads = run and run.reads or named and { protocols = partial.protocols }
  if reads then
    partial.count = require("sharkstat_cut").count_lost(sharkstat, reads, sharkstat.all_of(partial.filter))
    return
  end
  local count = 0
  function partial.count() return count end
  local ports = partial.protocols[1] == "ports" and require("sharkstat_cut").WITHOUT_PORTS
  sharkstat.share("frame", sharkstat.all_of(partial.filter, ports or nil), function(pinfo, _, _, _, length)
    if pinfo.caplen < length then count = count + 1 end
  end)
end
if sharkstat.cut and ready then
  for _, partial in ipairs(partials) do
    ready = attempt(partial.id, function() count_lost(partial) end) and ready
  end
end

local feed_runs, flush, before = {}, nil, nil
if #listens > 0 then
  for _, name in ipairs(fields) do
    ready = attempt("field " .. name, function() sharkstat.field(name) end) and ready
  end
end
if #listens > 0 and ready then
  local listen
  -- Packets are sent when it is known when the capture begins; whole ones cannot wait for that.
  local held = not prompt and {} or nil
  listen, flush, before = require("feed").new(fields, named, #listens, function(line)
    if held then
      held[#held + 1] = line
      if not told and #held < 10000 then return end
      line, held = concat(held, "\n"), nil
    end
    out:write(line, "\n")
  end)
  local flush_last = flush
  function flush()
    flush_last()
    if held and #held > 0 then
      out:write(concat(held, "\n"), "\n")
      held = {}
    end
  end
  for index, subscription in ipairs(listens) do
    ready = attempt(subscription.id, function() feed_runs[index] = listen(index, subscription) end) and ready
  end
  if prompt then
    -- Whole packets come another way, each after what is said of it here: nobody need keep those that were passed.
    sharkstat.share("frame", nil, function(pinfo)
      before(pinfo.number)
      out:write("S\t", sharkstat.integer(pinfo.number), "\n")
    end)
  end
end

-- What of the packets that are cut each run has not counted.
local function tell_of_cut()
  if not sharkstat.cut then return end
  for _, run in ipairs(runs) do
    local unremarked = package.loaded.tcp_streams and package.loaded.tcp_streams.unremarked(run) or 0
    send("N", run.id, run.skipped or 0, run.lost and run.lost() or unremarked)
  end
  for index, run in ipairs(feed_runs) do send("N", listens[index].id, run.skipped or 0, 0) end
  for _, partial in ipairs(partials) do send("N", partial.id, 0, partial.count()) end
end

-- A run that does not tell connections of several networks apart says where tshark takes them for one.
local function watch_networks(run, id)
  local streams = of_streams[id]
  of_streams[id] = nil
  if not streams or run.knows_networks then return end
  for protocol in streams.protocols:gmatch("%a+") do
    if streams.one then
      require("networks").watch(run, protocol, "they are counted as one")
    elseif streams.apart then
      if protocol == "tcp" then require("networks").watch(run, protocol, require("networks").APART) end
    else
      require("networks").watch(run, protocol, "what is counted of them may be wrong", nil, true)
    end
  end
end
if ready then
  for _, run in ipairs(runs) do watch_networks(run, run.id) end
  for index, run in ipairs(feed_runs) do watch_networks(run, listens[index].id) end
  for id, streams in pairs(of_streams) do -- what tshark counts itself
    local run = sharkstat.new_run({ name = "tshark's own" })
    run.id, run.filter = id, streams.filter
    texts[#texts + 1] = run
    watch_networks(run, id)
  end
  local networks = package.loaded.networks
  if networks then
    function networks.missed()
      send("I")
      out:flush()
    end
  end
end

local function send_remarks(run, id)
  for _, say in ipairs(run.remarks) do
    local text, lacks = say()
    if text then send("W", id, text, lacks and 1 or 0) end
  end
end

-- The results so far, or the final ones.
function report(final)
  if flush then flush() end
  if flows then flows.each(function(...) send("G", ...) end) end
  for index, run in ipairs(feed_runs) do
    if run.failure then fail(listens[index].id, run.failure) end
    send_remarks(run, listens[index].id)
  end
  for _, run in ipairs(texts) do send_remarks(run, run.id) end
  for _, run in ipairs(runs) do
    if not run.failure then
      tell_columns(run)
      run.rows = 0
      local first = run.first_rows
      local of_all = {}
      if first then first:begin(final) end
      attempt(run.id, function()
        run.finish()
        if first and first.active then
          of_all = {
            first:finish(function(values) write_row(run, values) end,
                         function(values, count) write_rest(run, values, count) end),
          }
        end
        send_remarks(run, run.id)
        if run:is_capped() then send("O", run.id) end
      end)
      send("D", run.id, run.rows - (of_all[1] or 0), table.unpack(of_all))
    else
      fail(run.id, run.failure)
    end
  end
  tell_of_cut()
  for digits, name in pairs(sharkstat.names()) do send("A", digits, name) end
  send("M", unannounced, newest)
  send("B", packets, bytes, first, last, unordered, lateness, cut, sharkstat.timeless, headless)
end

if ready and books then
  if control then sharkstat.share("frame", nil, pace) end
  function books.draw()
    if may_be_timeless then read_again() end
    for _, run in ipairs(runs) do run.redrawn = false end
    report(true)
    if end_of_shard then end_of_shard() end
    out:write("Z\n")
    out:close()
  end
  for _, name in ipairs(fields) do
    send("F", name, require("values").type_name(sharkstat.field(name).type))
  end
  send("H", get_version and get_version() or "")
  if control then -- before any packet
    report()
    out:write("V\n")
  end
end
out:flush()
