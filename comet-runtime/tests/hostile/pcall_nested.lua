-- expect: handler_steps
local function nest(n) if n == 0 then while true do end end pcall(nest, n - 1) nest(0) end
function aso:onGet() nest(100) end
