-- Gives its value to one reader, deletes the other replicas, and later itself (the paper's weaker form: two
-- reads at two replicas at the same moment may both succeed).
aso.timer = 60
aso.durable = true
aso.read = false

local function erase_others(self)
  put(getASOKey(), nil, 20, function() end)
end

function aso:onGet(caller)
  if self.read then return nil end
  self.read = true
  erase_others(self)
  return self.value
end

function aso:onUpdate(caller, value)
  return false, "a one-time value cannot be changed"
end

function aso:onTimer()
  if not self.read then return end
  self.ticks = (self.ticks or 0) + 1
  if self.ticks > 3 then deleteSelf() else erase_others(self) end
end
