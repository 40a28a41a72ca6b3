-- expect: handler_steps
-- The same within the bound, for ever.
function aso:onGet() local s, p = string.rep("a", 3000), "^[^" .. string.rep("%d", 125) .. "]*$" while true do string.find(s, p) end end
