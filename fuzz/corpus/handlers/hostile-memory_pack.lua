-- expect: handler_memory
function aso:onGet() return #string.pack("c2000000", "") end
