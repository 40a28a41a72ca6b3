-- expect: true
function aso:onGet() deleteSelf(self, {}, log, 0 / 0) return true end
