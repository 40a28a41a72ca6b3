-- expect: handler_steps
function aso:onGet() while true do string.find(string.rep("(", 8192), "%b()") end end
