-- expect: handler_error
function aso:onGet()
  return string.find(string.rep("a", 100000), string.rep("a", 60000) .. "b", 1, true)
end
