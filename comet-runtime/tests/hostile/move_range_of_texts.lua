-- expect: true
-- Places that are given as texts are places.
function aso:onGet()
  return not pcall(table.move, {}, "1", "2000000000", 2) and not pcall(table.move, {}, 1, " 2e9 ", 2)
    and not pcall(table.move, {}, "0x1", "0x7ffffff0", "2")
end
