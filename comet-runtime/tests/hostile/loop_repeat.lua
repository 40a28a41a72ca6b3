-- expect: handler_steps
function aso:onGet() repeat until false end
