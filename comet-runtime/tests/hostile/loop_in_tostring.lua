-- expect: handler_steps
local t = setmetatable({}, { __tostring = function() while true do end end })
function aso:onGet() return tostring(t) end
