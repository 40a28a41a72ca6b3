-- expect: handler_memory
function aso:onGet() local s = "x" while true do s = s .. s end end
