-- expect: handler_steps
-- What comes after a limit does not count any more, however short it is.
function aso:onGet()
  local ok, problem = pcall(function() while true do end end)
  self.caught = problem
  leaked = problem
  return true
end
