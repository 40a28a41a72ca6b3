-- expect: handler_error
function aso:onGet() for i = 1, 1000 do get(getASOKey(), nil, nil, function() end) end end
