-- expect: refused
local t = setmetatable({}, { __tostring = function()
  hoard = {}
  for i = 1, 1000 do hoard[i] = string.rep("x", 100000) .. i end
  return "x"
end })
function aso:onPut() return false, t end
