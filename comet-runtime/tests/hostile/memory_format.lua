-- expect: handler_memory
function aso:onGet()
  local s = string.rep("x", 10000)
  local t = {}
  for i = 1, 50 do t[i] = s end
  return #string.format(string.rep("%s", 50), table.unpack(t))
end
