-- expect: handler_bad_state
function aso:onGet()
  local t = { 1 }
  for i = 1, 14 do t = { t, t, t, t } end
  self.t = t
end
