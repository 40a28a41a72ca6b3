-- expect: handler_bad_state
aso.onGet = setmetatable({}, { __call = function() while true do end end })
