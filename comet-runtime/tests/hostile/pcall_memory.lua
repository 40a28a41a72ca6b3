-- expect: handler_memory
-- Running out of memory inside a protected call still ends the turn.
function aso:onGet()
  pcall(function() local t = {} while true do t[#t + 1] = string.rep("x", 1000) .. #t end end)
  return true
end
