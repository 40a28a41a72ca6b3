-- expect: handler_steps
-- Writing a large table down costs steps even if the request is then refused.
function aso:onGet()
  local t = {}
  for i = 1, 8000 do t[i] = i end
  while true do pcall(put, "a stranger", t) end
end
