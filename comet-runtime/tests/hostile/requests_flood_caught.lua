-- expect: handler_steps
function aso:onGet() while true do pcall(get, getASOKey(), nil, nil, function() end) end end
