-- The template of what a request asks for: its path with what differs from request to request replaced, so that requests
-- of one kind share one text. A pure function of the text; docs/path-templates.md says what becomes of what, and
-- tests/data/path-templates.tsv has an example of each.
--
--     template("/shop/v2/orders/1027?page=2&lang=en")  --> "/shop/v2/orders/{n}?lang&page"

-- What is written as it is; the rest is percent-encoded: what no path may hold, braces, and what would part the path.
local UNSAFE = "[^!\"$&'()*+,%-.0-9:;<=>@A-Z%[%]^_`a-z|~\\]"

local HEX_4 = "%x%x%x%x"
local UUID = "^" .. HEX_4 .. HEX_4 .. ("%-" .. HEX_4):rep(4) .. HEX_4 .. HEX_4 .. "%f[^%w]"

local function encoded(text)
  return (text:gsub(UNSAFE, function(character) return ("%%%02X"):format(character:byte()) end))
end

local function decoded(text)
  return (text:gsub("%%(%x%x)", function(digits) return string.char(tonumber(digits, 16)) end))
end

local function is_year(digits) return digits >= "1970" and digits <= "2099" end
local function is_month(digits) return digits >= "01" and digits <= "12" end
local function is_day(digits) return digits >= "01" and digits <= "31" end

-- Where the date that begins here ends: 2024-01-18, 2024_01_18, 2024.01.18, 20240118, 2024-01, each but the last also
-- with a time behind it. Nothing where there is none.
local function end_of_date(text, at)
  local year, separator, month, after = text:match("^(%d%d%d%d)([-_.]?)(%d%d)()", at)
  if not year or not is_year(year) or not is_month(month) then return end
  local day, stop = text:match("^" .. (separator == "" and "" or "%" .. separator) .. "(%d%d)()", after)
  if not day or not is_day(day) then
    return separator == "-" and text:match("^%f[^%w]()", after) or nil
  end
  local clock = text:match("^[Tt _]?[012]%d:?[0-5]%d:?[0-5]%d()", stop) or text:match("^[Tt ]?[012]%d:?[0-5]%d()", stop)
  if clock then
    clock = text:match("^%.%d+()", clock) or clock
    clock = text:match("^[Zz]()", clock) or text:match("^[+-]%d%d:?%d%d()", clock) or clock
    if text:match("^%f[^%w]()", clock) then return clock end
  end
  return text:match("^%f[^%w]()", stop)
end

-- How often a text changes between letters and digits, and from a lower-case to an upper-case letter. Words change
-- seldom, random texts all the time.
local function changes(text)
  local _, to_digit = text:gsub("%a%f[%d]", "")
  local _, to_letter = text:gsub("%d%f[%a]", "")
  local _, to_upper = text:gsub("%l%f[%u]", "")
  return to_digit + to_letter, to_upper
end

local function is_random(text)
  local between, upper = changes(text)
  return between >= 4 or (between >= 2 and between + upper >= 4 and between + upper >= #text / 4)
end

-- A run of letters and digits, with nothing of the kind around it.
local function of_run(run)
  if run:find("^%d+$") then return "{n}" end
  if run:find("^%x+$") and (#run >= 16 or (#run >= 7 and run:find("%d"))) then return "{hash}" end
  if #run >= 40 or (#run >= 10 and is_random(run)) then return "{id}" end
  -- One digit beside letters is part of a name: s3, mp4, oauth2, 2x.
  return (run:gsub("%d%d+", "{n}"))
end

-- Base64, also as it is written in addresses: long, of both cases with digits, and random. Dates and UUIDs are none.
local function is_base64(word)
  return #word >= 16 and word:find("%d") and word:find("%u") and word:find("%l")
    and not word:find("%x%x%x%x%-%x%x%x%x%-%x%x%x%x%-")
    and not word:find("%f[%d][12]%d%d%d[-_]?[01]%d[-_]?[0-3]%d%f[^%d]") and is_random(word)
end

-- One part of a path, or the name of a parameter.
local function of_part(part)
  local text = decoded(part)
  local out, at, word_ends = {}, 1, 1
  local function add(piece, stop)
    out[#out + 1], at = piece, stop
  end
  while at <= #text do
    local word, behind
    if at >= word_ends then
      word, behind = text:match("^([%w+/_-]+)=*()", at)
      word_ends = behind or at + 1
    end
    if word and is_base64(word) then
      add("{id}", behind)
    elseif text:find("^%w", at) then
      local stop = text:match(UUID .. "()", at)
      local date = not stop and end_of_date(text, at)
      local version = text:match("^[vV]%d%d?%d?%f[^%w]()", at)
      if stop then
        add("{uuid}", stop)
      elseif date then
        add("{date}", date)
      elseif version then
        local whole = text:match("^[vV][%d.]*%d%f[^%w]()", at)
        add(text:sub(at, whole - 1), whole)
      else
        local run, after = text:match("^(%w+)()", at)
        local replaced = of_run(run)
        while replaced == "{n}" and text:find("^%.%d+%f[^%w]", after) do after = text:match("^%.%d+()", after) end
        add(replaced, after)
      end
    else
      add(encoded(text:sub(at, at)), at + 1)
    end
  end
  return table.concat(out)
end

-- A year, a month and a day (or the first two) that are parts of their own: how many parts they are.
local function parts_of_date(parts, at)
  local year, month, day = parts[at], parts[at + 1] or "", parts[at + 2] or ""
  if not (year:find("^%d%d%d%d$") and is_year(year) and month:find("^%d%d?$")) then return 0 end
  if not is_month(("0" .. month):sub(-2)) then return 0 end
  if day:find("^%d%d?$") and is_day(("0" .. day):sub(-2)) then return 3 end
  return #month == 2 and 2 or 0
end

local function of_path(path)
  local parts, out, at = {}, {}, 1
  for part in (path .. "/"):gmatch("(.-)/") do parts[#parts + 1] = part end
  while at <= #parts do
    local count = parts_of_date(parts, at)
    out[#out + 1] = count > 0 and "{date}" or of_part(parts[at])
    at = at + math.max(count, 1)
  end
  return table.concat(out, "/")
end

-- The names of a query's parameters, in the order of their bytes, each once.
local function of_query(query)
  local names, known = {}, {}
  for parameter in query:gmatch("[^&]+") do
    local name = of_part(parameter:match("^[^=]*")):gsub("&", "%%26")
    if name ~= "" and not known[name] then names[#names + 1] = name end
    known[name] = true
  end
  table.sort(names)
  return table.concat(names, "&")
end

-- The template of a request's target; with `without_query` of its path alone. What is neither a path nor an address with
-- one (CONNECT's host and port, the * of OPTIONS) stays as it is.
return function(target, without_query)
  local path, query = target:match("^([^?]*)%??(.*)$")
  local authority, rest = path:match("^(%a[%w+.-]*://[^/]*)(.*)$")
  if not authority then
    if path:sub(1, 1) ~= "/" then return path end
    authority, rest = "", path
  end
  local found = authority .. of_path(rest)
  if without_query then return found end
  local names = of_query(query)
  return names == "" and found or found .. "?" .. names
end
