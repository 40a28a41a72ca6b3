-- expect: true
function aso:onGet(caller)
  local writes = {
    function() caller.ip = "x" end, function() caller.x = 1 end, function() rawset(caller, "id", "x") end,
    function() setmetatable(caller, {}) end, function() getmetatable(caller).__index = 1 end,
    function() table.clear(caller) end, function() table.clone(caller) end, function() table.freeze(caller) end,
  }
  for i, write in ipairs(writes) do
    if pcall(write) then return i .. " passed" end
  end
  return getmetatable(caller) == "node"
end
