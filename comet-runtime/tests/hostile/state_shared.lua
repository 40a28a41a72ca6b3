-- expect: handler_bad_state
-- Few tables in memory that would be many when written down.
function aso:onGet()
  local t = {}
  for i = 1, 1000 do t[i] = 1 end
  local all = {}
  for i = 1, 60 do all[i] = t end
  self.all = all
end
