-- expect: handler_steps
function aso:onGet() while true do pcall(error, "x") end end
