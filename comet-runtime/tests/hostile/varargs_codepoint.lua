-- expect: handler_error
function aso:onGet() return select("#", utf8.codepoint(string.rep("x", 100000), 1, -1)) end
