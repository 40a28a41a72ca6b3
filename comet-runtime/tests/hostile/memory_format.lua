-- expect: handler_memory
function aso:onGet()
  local s = string.rep("x", 10000)
  local t = {}
  for i = 1, 200 do t[i] = s end
  return #string.format(string.rep("%s", 200), table.unpack(t))
end
