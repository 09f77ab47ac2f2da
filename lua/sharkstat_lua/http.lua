-- The HTTP trees: http,tree (messages by kind, method and status), http_req,tree (requests by host
-- and path) and http_srv,tree (requests and responses by server address), as tshark counts them.
-- By itself: tshark -q -X lua_script:http.lua -z sharkstat,http,tree -r FILE
--
-- One message, one count: several may stand in one packet. A request without a Host header is not
-- in http_req,tree below the root, as in tshark.

package.path = (__DIR__ or debug.getinfo(1, "S").source:match("@(.*[/\\])")) .. "?.lua;" .. package.path
local sharkstat = require "sharkstat"
local trees = require "tree"

local relative_ns = sharkstat.relative_ns

local CLASSES = {
  [0] = "???: broken", "1xx: Informational", "2xx: Success", "3xx: Redirection", "4xx: Client Error",
  "5xx: Server Error",
}

local function register(name, title, fields, start)
  sharkstat.register {
    name = name,
    z_name = "sharkstat," .. name,
    title = title,
    columns = trees.COLUMNS,
    fields = fields,
    start = function(run)
      run.reads = { protocols = { "http" } }
      run.filter = run.arguments
      local tree = trees.new()
      local count = start(run, tree)
      run:listen("http", function(pinfo, _, info)
        tree:at(relative_ns(pinfo))
        count(info, pinfo)
      end)
      return function() tree:emit(run) end
    end,
  }
end

-- "404 Not Found": tshark's own words for the status code, from the packet's fields.
local function status_names()
  local codes, words = sharkstat.field "http.response.code", sharkstat.field "http.response.code.desc"
  local known = {}
  return function(code)
    if known[code] then return known[code] end
    local found_words = { words() }
    for index, found in ipairs { codes() } do
      if found.value == code and found_words[index] then
        known[code] = ("%.0f %s"):format(code, found_words[index].value)
        return known[code]
      end
    end
    return ("%.0f Unknown (%.0f)"):format(code, code)
  end
end

register("http,tree", "HTTP packet counter", { "http.response.code", "http.response.code.desc" },
  function(run, tree)
    local status_name = status_names()
    -- The nodes that tshark shows even when they are empty, in its order.
    local total, responses, requests
    local function nodes()
      total = tree:node("Total HTTP Packets")
      requests = tree:node("HTTP Request Packets", total)
      responses = tree:node("HTTP Response Packets", total)
      for class = 0, 5 do tree:node(CLASSES[class], responses) end
      tree:node("Other HTTP Packets", total)
    end
    return function(info)
      if not total then nodes() end
      tree:tick("Total HTTP Packets")
      local code = info.response_code or 0
      if code ~= 0 then
        tree:tick("HTTP Response Packets", total)
        local class = (code >= 100 and code < 600) and math.floor(code / 100) or 0
        tree:tick(status_name(code), tree:tick(CLASSES[class], responses))
      elseif info.request_method then
        tree:tick("HTTP Request Packets", total)
        tree:tick(info.request_method, requests)
      else
        tree:tick("Other HTTP Packets", total)
      end
    end
  end)

register("http_req,tree", "HTTP requests by host and path", nil, function(_, tree)
  return function(info)
    if not info.request_method then return end
    local root = tree:tick("HTTP Requests by HTTP Host")
    if info.http_host then
      local host = tree:tick(info.http_host, root)
      if info.request_uri then tree:tick(info.request_uri, host) end
    end
  end
end)

register("http_srv,tree", "HTTP load by server", nil, function(run, tree)
  local requests, responses, by_address, by_host
  local function nodes()
    requests = tree:node("HTTP Requests by Server")
    by_address = tree:node("HTTP Requests by Server Address", requests)
    by_host = tree:node("HTTP Requests by HTTP Host", requests)
    responses = tree:node("HTTP Responses by Server Address")
  end
  return function(info, pinfo)
    if not requests then nodes() end
    if info.request_method then
      local server = run:address(pinfo.dst)
      tree:tick("HTTP Requests by Server")
      tree:tick("HTTP Requests by Server Address", requests)
      tree:tick("HTTP Requests by HTTP Host", requests)
      local at_address = tree:tick(server, by_address)
      if info.http_host then
        tree:tick(server, tree:tick(info.http_host, by_host))
        tree:tick(info.http_host, at_address)
      end
    elseif (info.response_code or 0) ~= 0 then
      local code = info.response_code
      tree:tick("HTTP Responses by Server Address")
      local at_address = tree:tick(run:address(pinfo.src), responses)
      tree:tick((code >= 100 and code < 400) and "OK" or "Error", at_address)
    end
  end
end)
