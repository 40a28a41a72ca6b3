-- expect: ok
function aso:onGet() return 1 end
table.freeze(aso)
