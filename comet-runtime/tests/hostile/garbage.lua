-- expect: ok
-- turns: 2000
-- Garbage is not held against an object that keeps nothing.
function aso:onGet()
  local n = 0
  for i = 1, 100 do n = n + #(string.rep("y", 1000) .. i) end
  return n
end
