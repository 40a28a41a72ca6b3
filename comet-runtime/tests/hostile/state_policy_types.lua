-- expect: handler_bad_state
function aso:onGet() self.replicas = "many" end
