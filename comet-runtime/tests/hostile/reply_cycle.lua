-- expect: handler_bad_reply
function aso:onGet() local t = {} t[1] = t return t end
