-- expect: bad_code
-- What the script keeps while it defines the object counts like what a handler keeps.
local hoard = {}
for i = 1, 60 do hoard[i] = string.rep("x", 10000) .. i end
function aso:onGet() return #hoard end
