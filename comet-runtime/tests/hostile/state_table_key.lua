-- expect: handler_bad_state
function aso:onGet() self.t = { [{}] = 1 } end
