-- expect: handler_steps or handler_memory
function aso:onGet() local s = string.rep("x", 20000) while true do log(s) end end
