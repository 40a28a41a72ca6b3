-- expect: handler_bad_state
function aso:onGet() self.timer = 0 / 0 end
