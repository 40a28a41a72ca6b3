-- expect: handler_error
function aso:onGet() table.move({}, -2 ^ 30, 2 ^ 29, 2) error("came back") end
