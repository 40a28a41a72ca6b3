-- Gives its value to one reader at once, deletes the other replicas, and later itself. The paper's form: two
-- reads at two replicas that do not hear of each other in time may both succeed.
aso.timer = 60
aso.durable = true
aso.read = false

local function erase_others()
  put(getASOKey(), nil, 20, function() end)
end

function aso:onGet(caller)
  if self.read then return nil end
  self.read = true
  erase_others()
  return self.value
end

function aso:onUpdate(caller)
  return false, "a one-time value cannot be changed"
end

-- Whoever may read it may use it up, so deleting it takes no more rights; the replica that was read does it.
function aso:onDelete(caller)
  return true
end

function aso:onTimer()
  if not self.read then return end
  self.ticks = (self.ticks or 0) + 1
  if self.ticks > 3 then deleteSelf() else erase_others() end
end
