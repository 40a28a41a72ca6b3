-- expect: handler_bad_state
function aso:onGet() self[log] = 1 end
