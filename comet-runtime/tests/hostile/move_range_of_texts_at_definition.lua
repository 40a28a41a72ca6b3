-- expect: bad_code
-- The same while the script defines the object.
table.move({}, "1", "2000000000", 2)
function aso:onGet() return 1 end
