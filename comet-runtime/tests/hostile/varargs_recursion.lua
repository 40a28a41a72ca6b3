-- expect: handler_memory
function aso:onGet()
  local function walk(...) return walk(1, ...) end
  walk()
end
