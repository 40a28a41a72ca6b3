-- expect: handler_error
function aso:onGet() return string.match("a", string.rep("(", 100)) end
