-- expect: handler_memory
-- turns: 1000
local hidden = setmetatable({}, { __index = {} })
function aso:onGet()
  local index = getmetatable(hidden).__index
  for i = 1, 10 do index[#index + 1] = { i, i, i } end
end
