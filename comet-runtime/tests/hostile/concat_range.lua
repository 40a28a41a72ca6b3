-- expect: handler_error
function aso:onGet() return table.concat({}, "", 1, 2 ^ 30) end
