-- expect: handler_error
-- A move of elements that are not there is not free.
function aso:onGet() table.move({}, 1, 2 ^ 30, 2) error("came back") end
