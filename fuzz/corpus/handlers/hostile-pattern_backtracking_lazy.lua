-- expect: handler_steps
function aso:onGet() return string.match(string.rep("a", 100), string.rep(".-", 30) .. "b") end
