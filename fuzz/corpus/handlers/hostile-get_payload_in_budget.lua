-- expect: handler_steps
function aso:onGet()
  local t = {}
  for i = 1, 8000 do t[i] = tostring(i) end
  while true do pcall(get, "a stranger", nil, t) end
end
