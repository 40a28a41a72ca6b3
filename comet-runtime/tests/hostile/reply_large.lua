-- expect: handler_bad_reply
function aso:onGet() return string.rep("x", 100000) end
