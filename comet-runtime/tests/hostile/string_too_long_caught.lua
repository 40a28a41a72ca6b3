-- expect: handler_memory
-- And cannot be kept by catching that.
function aso:onGet()
  local s = string.rep("x", 60000)
  pcall(function() s = s .. s s = s .. s end)
  return 1
end
