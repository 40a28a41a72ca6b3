-- expect: true
function aso:onGet()
  local g = getmetatable(setmetatable({}, { __index = 1 }))
  return g.__index == 1 and not pcall(setmetatable, dht, {}) and getmetatable(dht) == nil
end
