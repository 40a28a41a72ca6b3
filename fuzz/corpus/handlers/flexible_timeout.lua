-- Lives as long as its value says: { value = …, seconds = … }. Readers see nothing from that moment on;
-- the next tick of the timer removes it.
aso.timer = 60

function aso:onPut(caller)
  local seconds = type(self.value) == "table" and self.value.value ~= nil and self.value.seconds
  if type(seconds) ~= "number" or not (seconds > 0 and seconds < math.huge) then
    return false, "the value must be { value = …, seconds = a positive number }"
  end
  self.expires = self.expires or getSystemTime() + seconds
end

function aso:onGet(caller)
  if getSystemTime() >= self.expires then return nil end
  return self.value.value
end

function aso:onTimer()
  if getSystemTime() >= self.expires then deleteSelf() end
end
