-- expect: handler_bad_state
function aso:onGet() self.ttl = -1 end
