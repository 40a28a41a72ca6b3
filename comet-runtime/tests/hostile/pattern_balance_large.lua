-- expect: handler_error
function aso:onGet() return string.find(string.rep("(", 60000), "%b()") end
