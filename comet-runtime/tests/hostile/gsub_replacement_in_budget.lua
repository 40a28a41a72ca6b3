-- expect: handler_steps or handler_time or handler_memory
-- The same within the bound, for ever.
function aso:onGet() local s, r = string.rep("a", 60000), string.rep("%1", 2000) while true do string.gsub(s, "(b*)a", r) end end
