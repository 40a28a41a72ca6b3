-- expect: handler_error
-- A number is a pattern, too.
function aso:onGet() return string.find(string.rep("a", 131072), 1) end
