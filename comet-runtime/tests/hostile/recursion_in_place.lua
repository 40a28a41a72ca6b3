-- expect: handler_memory
function aso:onGet() local function a(n) return a(n) end return a(0) end
