-- expect: handler_steps
function aso:onGet() xpcall(function() while true do end end, function(e) return e end) return true end
