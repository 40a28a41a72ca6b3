-- expect: handler_memory
-- turns: 1000
function aso:onGet()
  hoard = (hoard or "") .. string.rep("x", 1000)
  return #hoard
end
