-- expect: refused
-- A refusal's reason is read raw; otherwise this would run after the turn, without its limits.
local t = setmetatable({}, { __tostring = function() while true do end end })
function aso:onPut() return false, t end
