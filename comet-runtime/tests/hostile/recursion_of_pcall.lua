-- expect: handler_memory or handler_steps
function aso:onGet()
  local function a(n) pcall(a, n + 1) return a(n + 1) end
  a(0)
end
