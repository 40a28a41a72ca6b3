-- expect: handler_error
local function again() return string.gsub("a", "a", again) end
function aso:onGet() return (again()) end
