-- expect: handler_bad_state
function aso:onGet() self.t = {} self.t.t = self.t end
