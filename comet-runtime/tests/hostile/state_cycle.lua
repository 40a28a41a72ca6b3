-- expect: handler_bad_state
function aso:onGet() self.me = { self } end
