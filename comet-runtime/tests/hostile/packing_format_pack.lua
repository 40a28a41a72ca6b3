-- expect: handler_error
-- A format that is all blanks is read to its end.
function aso:onGet() local s = string.rep(" ", 131072) for i = 1, 63 do string.pack(s) end return 1 end
