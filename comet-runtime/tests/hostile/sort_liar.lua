-- expect: handler_error
-- A comparator that always says yes.
function aso:onGet()
  local t = {}
  for i = 1, 5000 do t[i] = i % 7 end
  table.sort(t, function() return true end)
  error("survived")
end
