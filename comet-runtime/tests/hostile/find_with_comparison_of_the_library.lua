-- expect: ok or handler_steps
-- A function of the library compares the items that are looked through.
function aso:onGet()
  local meta = { __eq = table.clear }
  local item, wanted = setmetatable(table.create(4000), meta), setmetatable({}, meta)
  local t = table.create(4000, item)
  for i = 1, 50 do table.find(t, wanted) end
  return 1
end
