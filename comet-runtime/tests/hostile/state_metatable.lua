-- expect: handler_bad_state
function aso:onGet() self.t = setmetatable({}, {}) end
