-- expect: handler_steps
function aso:onGet() xpcall(error, function() while true do end end, "x") return true end
