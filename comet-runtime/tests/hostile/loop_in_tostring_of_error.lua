-- expect: handler_steps
-- The text of an error object is made within the turn, at its cost.
local t = setmetatable({}, { __tostring = function() while true do end end })
function aso:onGet() error(t) end
