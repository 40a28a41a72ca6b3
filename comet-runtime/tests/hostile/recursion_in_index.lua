-- expect: handler_error
local t = {}
setmetatable(t, { __index = function(t, k) return t[k .. "x"] end })
function aso:onGet() return t.x end
