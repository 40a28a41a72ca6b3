-- expect: handler_memory
function aso:onGet() for i = 1, 1e6 do self["k" .. i] = i end end
