-- expect: handler_error
local a, b = {}, {}
setmetatable(a, { __index = b })
setmetatable(b, { __index = a })
function aso:onGet() return a.x end
