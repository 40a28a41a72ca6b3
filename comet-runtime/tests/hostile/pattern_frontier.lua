-- expect: handler_steps
function aso:onGet() while true do string.find(string.rep("a", 60000), "%f[b]") end end
