-- expect: handler_steps
function aso:onGet() local t = table.create(10000, 1) while true do table.insert(t, 1, 1) table.remove(t, 1) end end
