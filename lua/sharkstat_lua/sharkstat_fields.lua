-- How a tap without sharkstat reads fields (sharkstat_alone.lua). tshark makes an extractor only while it loads scripts,
-- and one that exists costs every packet, so a tap that is installed and not asked for may have none.

local fields = {}

-- A listener whose filter names fields makes tshark put them in the packet's tree, whenever it is made. They are then
-- found among all that the tree holds, once a packet. Their order is that of the tree.
local readers, wanted = {}, {}
local packet_number         -- of the packet whose fields `found` holds
local found

local function find_fields()
  found = {}
  local all = { all_field_infos() }
  for index = 1, #all do
    local info = all[index]
    local name = info.name
    if wanted[name] then
      local before = found[name]
      if before == nil then
        found[name] = info
      elseif type(before) == "table" then
        before[#before + 1] = info
      else
        found[name] = { before, info }
      end
    end
  end
end

-- Called, it gives the field's FieldInfos in this packet, as a Field does. An error where there is no such field.
function fields.reader(name)
  if not readers[name] then
    local fine, listener = pcall(Listener.new, "frame", name)
    if not (fine and name:find("^[%w_.%-]+$")) then error("no such field: " .. name, 0) end
    listener:remove()
    wanted[name] = true
    readers[name] = setmetatable({}, {
      __call = function()
        if not found then find_fields() end
        local values = found[name]
        if values == nil then return end
        if type(values) == "table" then return table.unpack(values) end
        return values
      end,
      __index = function(_, key)
        error(("a field's %s needs an extractor: load the tap with -X lua_script1:%s"):format(key, name), 0)
      end,
    })
  end
  return readers[name]
end

-- The listener that makes tshark keep the fields of these names in each packet's tree; nil where there are none.
function fields.prime(wanted_names)
  local names = {}
  for name in pairs(wanted_names) do names[#names + 1] = name end
  if #names == 0 then return nil end
  table.sort(names)
  return Listener.new("frame", "frame or " .. table.concat(names, " or "))
end

-- To be called for every packet before its fields are read; without a number, what was read is forgotten.
function fields.packet(number)
  if number == nil or number ~= packet_number then packet_number, found = number, nil end
end

return fields
