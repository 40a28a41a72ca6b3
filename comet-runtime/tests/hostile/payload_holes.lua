-- expect: true
-- The same as a payload.
local function holes()
  local t = {}
  for i = 1, 2048 do t["k" .. i] = i end
  for i = 1, 2048 do t["k" .. i] = nil end
  local a, b = table.create(120, t), {}
  for i = 1, 120 do b[i] = a end
  return b
end
function aso:onGet() get(getASOKey(), nil, holes(), function() end) return true end
