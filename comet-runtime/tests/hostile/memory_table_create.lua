-- expect: handler_memory
function aso:onGet() return #table.create(2 ^ 25, 0) end
