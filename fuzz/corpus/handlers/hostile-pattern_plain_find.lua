-- expect: handler_error
function aso:onGet()
  return string.find(string.rep("a", 300000), string.rep("a", 150000) .. "b", 1, true)
end
