-- expect: handler_memory
function aso:onGet() return #string.split(string.rep("a,", 32000), "") + #string.split(string.rep("a,", 32000), ",") end
