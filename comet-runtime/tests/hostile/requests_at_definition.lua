-- expect: bad_code
get(getASOKey(), function() end)
function aso:onGet() return 1 end
