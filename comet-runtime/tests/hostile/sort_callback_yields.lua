-- expect: handler_error
-- Waiting inside a library call is an error, not a way out of it.
function aso:onGet()
  table.sort({ 2, 1 }, function() get(getASOKey()) return true end)
end
