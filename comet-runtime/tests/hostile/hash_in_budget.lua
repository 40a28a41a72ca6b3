-- expect: handler_steps
function aso:onGet() local s = string.rep("x", 100000) while true do sha256(s) end end
