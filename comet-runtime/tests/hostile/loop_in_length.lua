-- expect: handler_steps
local t = setmetatable({}, { __len = function() while true do end end })
function aso:onGet() return #t end
