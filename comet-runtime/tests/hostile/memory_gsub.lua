-- expect: handler_memory
function aso:onGet() return #string.gsub(string.rep("x", 60000), "x", string.rep("y", 1000)) end
