-- expect: handler_memory
function aso:onGet() local f = 0 while true do local g = f f = function() return g end end end
