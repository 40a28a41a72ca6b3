-- expect: handler_steps or handler_memory or ok
-- What is logged is cut before it is made readable.
function aso:onGet() local s = string.rep("\xff", 131072) for i = 1, 200 do log(s) end return 1 end
