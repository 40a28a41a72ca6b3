-- Watches its neighbourhood: who is among the nodes closest to its key, and since when. A get answers
-- { node = { first seen, last seen }, … }; who has been away for longest makes room.
local NODES = 64

aso.timer = 600
aso.seen = {}

local function forget_one(seen)
  local count, oldest = 0, nil
  for node, times in seen do
    count = count + 1
    if not oldest or times[2] < seen[oldest][2] then oldest = node end
  end
  if count > NODES then seen[oldest] = nil end
end

function aso:onTimer()
  for _, node in lookup(getASOKey()) or {} do
    local times = self.seen[node] or { getSystemTime() }
    self.seen[node] = { times[1], getSystemTime() }
    forget_one(self.seen)
  end
end

function aso:onGet(caller)
  return self.seen
end
