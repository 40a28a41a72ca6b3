-- expect: handler_bad_reply
function aso:onGet() return setmetatable({}, { __index = function() while true do end end }) end
