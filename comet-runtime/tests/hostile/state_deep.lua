-- expect: handler_bad_state
function aso:onGet() local t = {} self.t = t for i = 1, 200 do t[1] = {} t = t[1] end end
