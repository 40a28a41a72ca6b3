-- expect: handler_error
function aso:onGet() return (string.gsub("a", "a", function() return get(getASOKey()) end)) end
