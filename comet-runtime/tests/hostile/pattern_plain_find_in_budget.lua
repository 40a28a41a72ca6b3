-- expect: handler_steps
function aso:onGet()
  local s, p = string.rep("a", 65000), string.rep("a", 60) .. "b"
  while true do string.find(s, p, 1, true) end
end
