-- expect: handler_error
-- A set of classes costs more than one of letters.
function aso:onGet() return string.find(string.rep("a", 16384), "^[^" .. string.rep("%d", 125) .. "]*$") end
