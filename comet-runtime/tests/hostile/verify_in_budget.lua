-- expect: handler_steps
function aso:onGet()
  local k, s = string.rep("00", 32), string.rep("00", 64)
  while true do verify(k, "m", s) end
end
