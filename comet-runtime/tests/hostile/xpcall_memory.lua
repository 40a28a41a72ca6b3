-- expect: handler_memory
function aso:onGet()
  xpcall(function() local s = "x" while true do s = s .. s end end, function() return "swallowed" end)
  return true
end
