-- expect: handler_error
-- Thousands of long texts are read as numbers in one call.
function aso:onGet() local s = string.rep("0", 131072) local t = table.create(7000, s) utf8.char(table.unpack(t)) return 1 end
