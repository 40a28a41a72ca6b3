-- expect: handler_bad_reply
function aso:onGet() return log end
