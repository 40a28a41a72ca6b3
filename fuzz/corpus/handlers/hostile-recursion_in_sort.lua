-- expect: handler_error
local function again() table.sort({ 2, 1 }, again) return true end
function aso:onGet() again() end
