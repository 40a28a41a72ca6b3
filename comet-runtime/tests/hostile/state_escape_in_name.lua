-- expect: handler_bad_state
function aso:onGet() self["a\n\27[2J" .. string.rep("x", 5000)] = { function() end } end
