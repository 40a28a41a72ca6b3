-- expect: ok
function aso:onGet() return table.unpack(table.create(7000, "x")) end
