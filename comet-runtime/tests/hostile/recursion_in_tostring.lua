-- expect: handler_memory
local t = setmetatable({}, {})
getmetatable(t).__tostring = function(x) return tostring(x) end
function aso:onGet() return tostring(t) end
