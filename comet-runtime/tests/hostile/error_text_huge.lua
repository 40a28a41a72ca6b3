-- expect: handler_error
function aso:onGet() error(string.rep("x", 20000)) end
