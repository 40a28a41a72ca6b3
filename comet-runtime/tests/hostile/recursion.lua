-- expect: handler_memory
function aso:onGet() local function a(n) return 1 + a(n + 1) end return a(0) end
