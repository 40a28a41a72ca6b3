-- expect: handler_steps
local t = setmetatable({}, { __iter = function() while true do end end })
function aso:onGet() for _ in t do end end
