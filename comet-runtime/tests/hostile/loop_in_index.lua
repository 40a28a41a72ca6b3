-- expect: handler_steps
local t = setmetatable({}, { __index = function() while true do end end })
function aso:onGet() return t.x end
