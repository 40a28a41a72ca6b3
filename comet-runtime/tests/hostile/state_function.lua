-- expect: handler_bad_state
function aso:onGet() self.t = { function() end } end
