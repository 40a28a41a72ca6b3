-- expect: handler_steps
-- The same within the bound, for ever.
function aso:onGet() local s = string.rep("a", 65536) while true do string.split(s) end end
