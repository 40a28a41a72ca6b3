-- expect: handler_error
function aso:onGet(caller) aso = caller error("the object is still its table") end
