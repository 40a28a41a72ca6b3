-- expect: ok
function aso:onGet()
  local t = {}
  for i = 1, 7000 do t[i] = "s" .. i end
  return table.unpack(t)
end
