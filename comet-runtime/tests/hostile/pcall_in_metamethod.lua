-- expect: handler_steps
local t = setmetatable({}, { __index = function(t, k) pcall(function() return t[k] end) return t[k] end })
function aso:onGet() while true do pcall(function() return t.x end) end end
