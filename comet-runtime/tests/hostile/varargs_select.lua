-- expect: handler_steps or handler_memory
function aso:onGet()
  local function walk(...) for i = 1, select("#", ...) do local x = select(i, ...) end end
  while true do walk(table.unpack(table.create(7000, 1))) end
end
