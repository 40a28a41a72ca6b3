-- expect: handler_steps
local t = setmetatable({}, { __concat = function() while true do end end })
function aso:onGet() return t .. "x" end
