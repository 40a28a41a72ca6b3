-- expect: handler_error
-- Without a separator the subject is bounded, too.
function aso:onGet() local s = string.rep("a", 131072) for i = 1, 63 do string.split(s) end return 1 end
