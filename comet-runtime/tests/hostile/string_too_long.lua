-- expect: handler_memory
-- A string that doubles ends the turn long before its memory does.
function aso:onGet()
  local s = string.rep("x", 60000)
  s = s .. s
  s = s .. s
  return 1
end
