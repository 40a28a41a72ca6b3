-- expect: handler_memory
-- turns: 1000
-- What a handler hides in a local of the script counts.
local hoard = {}
function aso:onGet()
  hoard[#hoard + 1] = string.rep("x", 1000) .. #hoard
  return #hoard
end
