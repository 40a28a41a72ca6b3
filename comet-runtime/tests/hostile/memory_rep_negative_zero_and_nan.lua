-- expect: true
function aso:onGet()
  return #string.rep("x", -1) + #string.rep("", 1e9) + #string.rep("x", -0) == 0
end
