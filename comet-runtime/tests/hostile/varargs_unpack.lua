-- expect: ok
function aso:onGet() return select("#", table.unpack(table.create(20000, 1))) end
