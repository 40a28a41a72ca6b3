-- expect: handler_steps
local function handler(problem) xpcall(error, handler, problem) while true do end end
function aso:onGet() xpcall(error, handler, "x") return true end
