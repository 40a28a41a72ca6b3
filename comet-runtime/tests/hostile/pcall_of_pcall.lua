-- expect: handler_steps
function aso:onGet() pcall(pcall, pcall, pcall, function() while true do end end) return true end
