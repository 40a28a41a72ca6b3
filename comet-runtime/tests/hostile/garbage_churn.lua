-- expect: handler_steps or handler_memory
function aso:onGet() while true do local t = { string.rep("x", 10000) } end end
