-- expect: handler_steps
function aso:onGet() for _ in function() return 1 end do end end
