-- expect: handler_steps
local t = setmetatable({}, { __tostring = function() while true do end end })
function aso:onGet() return string.format("%s %*", 1, t) end
