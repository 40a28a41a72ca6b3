-- expect: handler_steps
function aso:onGet() local t = {} while true do table.move({}, 1, 60000, 2, t) end end
