-- expect: handler_error
local t = setmetatable({}, { __index = function() return get(getASOKey()) end })
function aso:onGet() local s = string.gsub("a", "a", t) return s end
