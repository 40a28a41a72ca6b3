-- expect: handler_error
function aso:onGet() return string.rep("x", 2 ^ 30) end
