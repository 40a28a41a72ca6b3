-- expect: handler_steps
local meta = { __lt = function() while true do end end }
local a, b = setmetatable({}, meta), setmetatable({}, meta)
function aso:onGet() return a < b end
