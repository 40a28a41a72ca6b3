-- expect: handler_steps
local function bounce(f) return f end
function aso:onGet() for i = 1, 1e9 do bounce(bounce)(bounce) end end
