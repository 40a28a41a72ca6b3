-- expect: ok
-- The host reads the object raw.
function aso.onGet() return 1 end
local function loop() while true do end end
setmetatable(aso, { __index = loop, __newindex = loop, __len = loop, __iter = loop, __eq = loop })
