-- expect: true
-- turns: 100
-- A hundred thousand of them, a thousand in each turn.
function aso:onGet()
  local ran = false
  for i = 1, 1000 do setmetatable({}, { __gc = function() ran = true end, __close = function() ran = true end }) end
  return not ran
end
