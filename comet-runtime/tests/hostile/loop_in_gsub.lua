-- expect: handler_steps
function aso:onGet() string.gsub("aaa", "a", function() while true do end end) end
