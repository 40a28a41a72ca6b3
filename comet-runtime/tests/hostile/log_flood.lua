-- expect: handler_steps
function aso:onGet() while true do log("x") end end
