-- Several behaviours in one object, asked in the order in which they are listed:
--
--   onGet              while the answer is the value itself the next one is asked; any other answer is the reply
--   onPut, onDelete    the first refusal is the answer
--   onUpdate           the first refusal is the answer; the incoming object is taken if all that are asked say so
--   onTimer            each at its own interval; the object's timer is the shortest of them
--   deleteSelf         by one of them deletes the object
local parts = {}

-- Takes over the handlers that a behaviour has just defined.
local function adopt()
  local part = { timer = aso.timer or 600 }
  for _, name in { "onGet", "onPut", "onUpdate", "onDelete", "onTimer" } do
    part[name], aso[name] = aso[name], nil
  end
  aso.timer = nil
  table.insert(parts, part)
end

-- behaviours

local function with(handler)
  local found = {}
  for _, part in parts do
    if part[handler] then table.insert(found, part) end
  end
  return found
end

-- A handler that asks each part that has one until the first refusal.
local function unanimous(handler)
  local asked = with(handler)
  if #asked == 0 then return nil end
  return function(self, ...)
    local all = true
    for _, part in asked do
      local accepted, reason = part[handler](self, ...)
      if accepted == false then return false, reason end
      all = all and accepted
    end
    return all
  end
end

aso.onPut, aso.onUpdate, aso.onDelete = unanimous("onPut"), unanimous("onUpdate"), unanimous("onDelete")

local readers, timed = with("onGet"), with("onTimer")

function aso:onGet(...)
  for _, part in readers do
    local answer = part.onGet(self, ...)
    if answer ~= self.value.value then return answer end
  end
  return self.value.value
end

for _, part in timed do
  aso.timer = math.min(aso.timer or part.timer, part.timer)
end

-- All are due at the first tick; half a tick of slack, since ticks are not exact.
function aso:onTimer()
  local now = getSystemTime()
  self.due = self.due or {}
  for i, part in timed do
    if now >= (self.due[i] or now) then
      self.due[i] = now + part.timer - self.timer / 2
      part.onTimer(self)
    end
  end
end
