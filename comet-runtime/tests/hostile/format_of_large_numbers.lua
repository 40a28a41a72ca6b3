-- expect: handler_error
-- Thousands of numbers of three hundred digits in one call.
function aso:onGet() return #string.format(string.rep("%f", 3000), table.unpack(table.create(3000, 1e308))) end
