-- expect: handler_steps
local t = setmetatable({}, { __newindex = function() while true do end end })
function aso:onGet() t.x = 1 end
