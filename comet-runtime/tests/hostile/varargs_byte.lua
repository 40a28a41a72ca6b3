-- expect: handler_error
function aso:onGet() return select("#", string.byte(string.rep("x", 100000), 1, -1)) end
