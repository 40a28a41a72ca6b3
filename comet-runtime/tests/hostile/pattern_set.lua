-- expect: handler_error
function aso:onGet() string.find(string.rep("a", 60000), "[" .. string.rep("b", 250) .. "]*c") end
