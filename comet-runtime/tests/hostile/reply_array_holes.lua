-- expect: ok
-- The same with places in an array.
function aso:onGet()
  local a, b = table.create(120, table.create(4000)), {}
  for i = 1, 120 do b[i] = a end
  return b
end
