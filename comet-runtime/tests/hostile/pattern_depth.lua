-- expect: handler_error
function aso:onGet() return string.match(string.rep("a", 60000), string.rep("(a?)", 31) .. string.rep("a?", 60)) ~= nil and error("x") end
