-- expect: handler_error or handler_steps
-- A function of the library as the comparator.
function aso:onGet() local s = string.rep("0", 131072) local t = table.create(2000, s) while true do table.sort(t, bit32.btest) end end
