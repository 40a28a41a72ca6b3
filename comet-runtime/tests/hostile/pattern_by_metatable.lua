-- expect: handler_error
function aso:onGet()
  local s = string.rep("a", 100000)
  return getmetatable("").__index.find(s, "b")
end
