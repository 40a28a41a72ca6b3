-- expect: handler_bad_state
function aso:onGet() self.s = string.rep("x", 66000) end
