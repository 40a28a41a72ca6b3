-- expect: ok
function aso:onGet() self.n = 0 / 0 self.t = { 1 / 0, -1 / 0, -0 } return self.n end
