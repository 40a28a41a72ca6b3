-- Copies itself only when too few replicas live: { value = text, threshold = 3, target = 5, spread = 2 }.
--
-- Below the threshold it fills up to the target, with nodes that were there at an earlier tick before those that
-- just came, and no two from one network: addresses that agree in their first `spread` parts.
aso.replicas = 0
aso.timer = 600
aso.since = {}

local ASKED_MAX = 10

local function is_whole(n, from, to)
  return type(n) == "number" and n >= from and n <= to and n % 1 == 0
end

function aso:onPut(caller)
  local v = type(self.value) == "table" and self.value or {}
  self.threshold, self.target, self.spread = v.threshold or 3, v.target or 5, v.spread or 2
  if type(v.value) ~= "string" or not is_whole(self.target, 1, 20) or not is_whole(self.threshold, 1, self.target)
    or not is_whole(self.spread, 0, 8) then
    return false, "the value must be { value = text, threshold = 1 to target, target = 1 to 20, spread = 0 to 8 }"
  end
end

-- What only a node that holds the value can answer, and only for itself.
local function proof(self, nonce, id)
  return sha256(table.concat({ nonce, id, self.value.value }, ":"))
end

function aso:onGet(caller, _, payload)
  local nonce = type(payload) == "table" and payload.alive
  if type(nonce) == "number" then return proof(self, nonce, getNodeID()) end
  return self.value.value
end

-- The part of an address that says whose network it is in; nil if the policy does not ask.
local function network(self, ip)
  if self.spread == 0 then return nil end
  local parts = string.split(ip, string.find(ip, ":") and ":" or ".")
  return table.concat(parts, ".", 1, math.min(#parts, self.spread))
end

-- Live replicas by id, and the networks that they are in, this node's among them. A tick pays for sixteen messages:
-- the nodes known longest are asked, which copies went to first, and enough is left to copy.
local function living(self, nodes)
  local nonce, ids, networks, count = math.random(2147483647), { [getNodeID()] = true }, {}, 1
  networks[network(self, getNodeIP()) or 0] = true
  for _, heard in get(getASOKey(), table.move(nodes, 1, ASKED_MAX, 1, {}), { alive = nonce }) or {} do
    if not ids[heard.node.id] and heard.value == proof(self, nonce, heard.node.id) then
      ids[heard.node.id], networks[network(self, heard.node.ip) or 0], count = true, true, count + 1
    end
  end
  return ids, networks, count
end

-- Remembers since when each of these nodes is there, and sorts them by that; equal ones stay as they are.
local function by_age(self, nodes)
  local since, place = {}, {}
  for i, node in nodes do
    local name = string.sub(node.id, 1, 16)
    since[name] = self.since[name] or getSystemTime()
    place[node] = { since[name], i }
  end
  self.since = since
  table.sort(nodes, function(a, b)
    a, b = place[a], place[b]
    return a[1] < b[1] or a[1] == b[1] and a[2] < b[2]
  end)
  return nodes
end

function aso:onTimer()
  local nodes = by_age(self, lookup(getASOKey()) or {})
  local ids, networks, count = living(self, nodes)
  if count >= self.threshold then return end
  local chosen = {}
  for _, node in nodes do
    local where = network(self, node.ip)
    if count < self.target and not ids[node.id] and not (where and networks[where]) then
      networks[where or 0], count = true, count + 1
      table.insert(chosen, node)
    end
  end
  if #chosen > 0 then put(getASOKey(), self, chosen) end
end
