-- expect: handler_steps
function aso:onGet() for i = 1, math.huge do end end
