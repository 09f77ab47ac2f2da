-- A statistics tree as tshark's epan/stats_tree.c keeps it: nodes that are ticked, each with its
-- count and its busiest moment. tshark's `,tree` statistics are made of these.
--
-- Rate is count per millisecond between the tree's first and last packet. The burst rate is the
-- largest count within a sliding window of 100 ms, kept in buckets of 5 ms (tshark's preferences
-- statistics.st_burst_windowlen and st_burst_resolution), divided by the window.

local divided = require("sharkstat_exact").divided

local RESOLUTION_NS, WINDOW_BUCKETS = 5000000, 20

local Tree = {}
Tree.__index = Tree

local function new_node(tree, name, parent)
  local node = { name = name, parent = parent, count = 0, burst = 0, max_burst = 0, burst_start = nil }
  -- The first bucket of every node is at time 0 and empty, as in tshark.
  node.head = { number = 0, count = 0, start = 0 }
  node.tail = node.head
  node.children = {}
  tree.nodes[#tree.nodes + 1] = node
  return node
end

local function count_burst(node, now)
  local bucket = divided(now, RESOLUTION_NS)
  local tail, head = node.tail, node.head
  if bucket > tail.number then
    local new = { number = bucket, count = 1, start = now, prev = tail }
    tail.next = new
    node.tail = new
    node.burst = node.burst + 1
    while bucket >= node.head.number + WINDOW_BUCKETS do
      local old = node.head
      node.head = old.next
      node.head.prev = nil
      node.burst = node.burst - old.count
    end
  elseif bucket < head.number then
    -- Older than all: it counts only while it is within the window of the newest.
    if bucket + WINDOW_BUCKETS > tail.number then
      local new = { number = bucket, count = 1, start = now, next = head }
      head.prev = new
      node.head = new
      node.burst = node.burst + 1
    end
  else
    local at = tail
    while bucket < at.number do at = at.prev end
    if bucket == at.number then
      at.count = at.count + 1
      if at.start > now then at.start = now end
    else
      local new = { number = bucket, count = 1, start = now, prev = at, next = at.next }
      if at.next then at.next.prev = new else node.tail = new end
      at.next = new
    end
    node.burst = node.burst + 1
  end
  if node.burst > node.max_burst then
    node.max_burst = node.burst
    node.burst_start = node.head.start
  end
end

-- Counts one on the node of that name below `parent` (nil: a root) and gives the node.
function Tree:tick(name, parent)
  local children = parent and parent.children or self.roots
  local node = children[name]
  if not node then
    node = new_node(self, name, parent)
    children[name] = node
  end
  node.count = node.count + 1
  count_burst(node, self.now)
  return node
end

-- Makes a node that is shown even when it is never ticked.
function Tree:node(name, parent)
  local children = parent and parent.children or self.roots
  if not children[name] then children[name] = new_node(self, name, parent) end
  return children[name]
end

-- To be called first for every packet or message, with its time since the capture's first packet.
function Tree:at(now)
  self.now = now
  if not self.first then self.first = now end
  self.last = now
end

local function path_of(node)
  local path = {}
  while node do
    table.insert(path, 1, node.name)
    node = node.parent
  end
  return path
end

-- Emits a row a node: path, count, burst (the largest count in a window), burst_start, and the times of
-- the tree's first and last packet.
function Tree:emit(run)
  if not self.first then return end
  for _, node in ipairs(self.nodes) do
    run:row {
      path_of(node), node.count, node.max_burst, node.burst_start, self.first, self.last,
    }
  end
end

return {
  COLUMNS = {
    { "path", "path" }, { "count", "integer" }, { "burst", "integer" }, { "burst_start", "duration" },
    { "first", "time" }, { "last", "time" },
  },
  new = function() return setmetatable({ roots = {}, nodes = {}, now = 0 }, Tree) end,
}
