-- expect: handler_steps or handler_memory
function aso:onGet()
  local s = string.rep("x", 2000)
  for i = 1, 1e9 do local t = s .. i end
end
