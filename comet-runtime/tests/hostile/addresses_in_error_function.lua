-- expect: handler_error
function aso:onGet() error(function() end) end
