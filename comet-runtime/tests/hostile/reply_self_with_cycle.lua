-- expect: handler_bad_reply
function aso:onGet() self.f = { self } return self end
