-- expect: handler_steps
function aso:onGet() local s = string.rep("9", 100000) while true do tonumber(s) tonumber(s, 10) end end
