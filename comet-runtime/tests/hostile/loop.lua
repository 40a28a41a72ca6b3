-- expect: handler_steps
function aso:onGet() while true do end end
