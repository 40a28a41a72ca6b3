-- expect: handler_memory
function aso:onGet() local t = {} for i = 1, 1e6 do t[i] = i end self.t = t end
