-- expect: handler_error
-- A message handler that fails in its own message handler.
local function handler(problem) error(problem) end
function aso:onGet()
  local ok, problem = xpcall(error, handler, "x")
  error("came back: " .. tostring(ok))
end
