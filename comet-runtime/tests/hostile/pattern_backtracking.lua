-- expect: handler_steps
function aso:onGet() return string.find(string.rep("a", 30), string.rep("a*", 30) .. "b") end
