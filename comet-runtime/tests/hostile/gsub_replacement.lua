-- expect: handler_error
-- A replacement is read anew at every match.
function aso:onGet() return string.gsub(string.rep("a", 60), "(b*)a", string.rep("%1", 60000)) end
