-- expect: handler_memory
function aso:onGet()
  local s, t = string.rep("x", 10000), {}
  for i = 1, 1000 do t[i] = s end
  return #table.concat(t)
end
