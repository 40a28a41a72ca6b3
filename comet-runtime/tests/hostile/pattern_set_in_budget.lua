-- expect: handler_steps
function aso:onGet()
  local s = string.rep("a", 60000)
  while true do string.find(s, "[" .. string.rep("b", 60) .. "a]*c") end
end
