-- expect: handler_error
function aso:onGet() return #table.create(2 ^ 30, 0) end
