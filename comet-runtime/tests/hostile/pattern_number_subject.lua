-- expect: ok
function aso:onGet() return (string.find(12345, 3)) end
