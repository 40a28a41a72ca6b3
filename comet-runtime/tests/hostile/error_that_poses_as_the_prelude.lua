-- expect: true
-- A long text that begins as the prelude does is not searched.
function aso:onGet()
  local text = "comet:" .. string.rep("1", 131000)
  local ok, problem = pcall(error, text, 0)
  return not ok and problem == text
end
