-- expect: true
function aso:onGet()
  local ok, problem = pcall(string.gsub, "a", "a", function() error("inside", 0) end)
  return not ok and problem == "inside"
end
