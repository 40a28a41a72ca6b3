-- expect: handler_error
function aso:onGet() error({}) end
