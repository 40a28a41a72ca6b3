-- Watches its own replication: puts itself again to the 20 nearest nodes and notes who acknowledged, on which
-- addresses it has lived, and from which it was read. The report is the answer to { report = true }.
local MOST = 64

aso.replicas = 0
aso.timer = 600
aso.hosts, aso.acknowledged, aso.accessors = {}, {}, {}

-- Counts a sighting: { first, last, how often }. What was not seen for longest makes room.
local function sight(list, what)
  local seen, now = list[what], getSystemTime()
  list[what] = { seen and seen[1] or now, now, (seen and seen[3] or 0) + 1 }
  local count, oldest = 0, nil
  for other, times in list do
    count = count + 1
    if not oldest or times[2] < list[oldest][2] then oldest = other end
  end
  if count > MOST then list[oldest] = nil end
end

function aso:onPut(caller)
  sight(self.hosts, getNodeIP())
end

function aso:onGet(caller, _, payload)
  if type(payload) == "table" and payload.report then
    return { hosts = self.hosts, acknowledged = self.acknowledged, accessors = self.accessors }
  end
  sight(self.accessors, caller.ip)
  return self.value
end

-- A tick pays for a lookup and fifteen copies. Chance leaves out the nearest nodes or the farthest: between them the
-- replicas reach all.
function aso:onTimer()
  local others = {}
  for _, node in lookup(getASOKey()) or {} do
    if node.id ~= getNodeID() then table.insert(others, node) end
  end
  local first = math.random(2) == 1 and 1 or math.max(1, #others - 14)
  for _, node in put(getASOKey(), self, table.move(others, first, first + 14, 1, {})) or {} do
    sight(self.acknowledged, node)
  end
end
