-- expect: handler_error
-- Methods of strings are as bounded as the functions of the library.
function aso:onGet() local s = string.rep("a", 100000) return s:find("b") end
