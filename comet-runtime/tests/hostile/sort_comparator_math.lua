-- expect: handler_steps or handler_time or handler_error
-- A function that reads both as numbers as the comparator.
function aso:onGet() local s = string.rep("0", 131072) local t = table.create(2000, s) while true do table.sort(t, math.fmod) end end
