-- How many different values there were: the values themselves, or of more than 10,000 a HyperLogLog.
-- core/sharkstat/tables/distinct.py says what that is, and makes the same ones.
--
--     distinct.add(row.names, name)   -- row.names is {} at first

local exact = require "sharkstat_exact"

local distinct = {}

local floor, byte, char = math.floor, string.byte, string.char

local EXACT = 10000
local REGISTERS = 16384
local BITS = 4294967296

-- Lua 5.2 has a library for it, 5.4 an operator that 5.2 cannot read.
local bxor = bit32 and bit32.bxor or load("return function(a, b) return a ~ b end", "=bxor", "t")()

-- The product modulo 2^32, no part of which is beyond what a double holds.
local function product(a, b) return (floor(a / 65536) * b % 65536 * 65536 + a % 65536 * b) % BITS end

local function rotated(value, bits)
  local moved = value * 2 ^ bits
  return moved % BITS + floor(moved / BITS)
end

local function mixed(block) return product(rotated(product(block, 0xcc9e2d51), 15), 0x1b873593) end

-- MurmurHash3 of 32 bits.
local function hash(text, seed)
  local length, value = #text, seed
  for at = 1, length - 3, 4 do
    local a, b, c, d = byte(text, at, at + 3)
    value = (rotated(bxor(value, mixed(a + b * 256 + c * 65536 + d * 16777216)), 13) * 5 + 0xe6546b64) % BITS
  end
  local a, b, c = byte(text, length - length % 4 + 1, length)
  if a then value = bxor(value, mixed(a + (b or 0) * 256 + (c or 0) * 65536)) end
  value = bxor(value, length)
  value = product(bxor(value, floor(value / 65536)), 0x85ebca6b)
  value = product(bxor(value, floor(value / 8192)), 0xc2b2ae35)
  return bxor(value, floor(value / 65536))
end

local function text_of(value) return type(value) == "string" and value or exact.escape(value) end

-- The register of a value, and the zeros that its other hash begins with, and one.
local MOST_KNOWN = 65536
local known_register, known_rank, count_known = {}, {}, 0

local function place(value)
  local register = known_register[value]
  if register then return register, known_rank[value] end
  local text = text_of(value)
  local other, rank, limit = hash(text, 1), 1, BITS / 2
  register = hash(text, 0) % REGISTERS + 1
  while other < limit and rank <= 32 do rank, limit = rank + 1, limit / 2 end
  if count_known == MOST_KNOWN then known_register, known_rank, count_known = {}, {}, 0 end
  known_register[value], known_rank[value], count_known = register, rank, count_known + 1
  return register, rank
end

local Distinct = {}

local function register(registers, value)
  local at, rank = place(value)
  if rank > registers[at] then registers[at] = rank end
end

function distinct.add(known, value)
  local registers = known.registers
  if registers then return register(registers, value) end
  local seen = known.seen
  if not seen then
    setmetatable(known, Distinct)
    seen = {}
    known.seen, known.count = seen, 0
  end
  if seen[value] then return end
  seen[value], known.count = true, known.count + 1
  if known.count <= EXACT then return end
  registers = {}
  for at = 1, REGISTERS do registers[at] = 0 end
  for one in pairs(seen) do register(registers, one) end
  known.registers, known.seen = registers, nil
end

-- A text that could be taken for registers, or for one that is marked like this, has a mark before it.
local function marked(text) return text:find("^=") and "=" .. text or text:find("^registers:") and "=" .. text or text end

function Distinct.texts(known)
  local texts = {}
  if known.registers then
    for at, rank in ipairs(known.registers) do texts[at] = char(48 + rank) end
    return { "registers:" .. table.concat(texts) }
  end
  for value in pairs(known.seen) do texts[#texts + 1] = marked(text_of(value)) end
  return texts
end

return distinct
