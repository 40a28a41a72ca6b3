-- expect: ok
-- Tables that look like lists until their last key are not written twice on every level.
function aso:onGet()
  local t = {}
  for i = 1, 500 do t[i] = i end
  for i = 1, 14 do t = { t, x = 1 } end
  self.t = t
  return 1
end
