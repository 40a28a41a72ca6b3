-- expect: handler_steps
function aso:onGet() while true do pcall(function() while true do end end) end end
