-- expect: handler_steps
-- Strings that are equal for a long while, compared many times.
function aso:onGet()
  local prefix, t = string.rep("x", 200), {}
  for i = 1, 2000 do t[i] = prefix .. (i * 7919 % 2000) end
  for i = 1, 1000 do
    table.sort(t)
    table.sort(t, function(a, b) return a > b end)
  end
end
