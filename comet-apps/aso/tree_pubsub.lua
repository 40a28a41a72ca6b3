-- A node of a tree of topics. Whoever has subscribers subscribes once to its parent; a value goes down the tree
-- and stops where it is known. Only the newest value is kept and passed on.
-- Reaches other keys: a publisher whom the operators trust has to sign it.
aso.timer = 60
aso.number = 0
aso.subscribers = {}   -- { node =, key =, token =, has =, expires = }
aso.above = 0          -- until when the parent knows of us

local SUBSCRIBERS_MAX, LEASE, DAY = 200, 3600, 24 * 3600

local function parent(self)
  return type(self.value) == "table" and self.value.parent or nil
end

-- Sends the newest value to whoever lacks it, as far as messages go; the rest waits for the next tick.
local function fan_out(self)
  local now, kept = getSystemTime(), {}
  for _, s in self.subscribers do
    if s.expires > now then table.insert(kept, s) end
  end
  self.subscribers = kept
  for _, s in kept do
    if s.has < self.number then
      local number, node, key = self.number, s.node, s.key
      local push = { token = s.token, number = number, value = self.newest }
      local sent = pcall(put, key, push, { node }, function(self, accepted)
        for _, other in self.subscribers do
          if other.node == node and other.key == key and accepted and #accepted > 0 then
            other.has = math.max(other.has, number)
          end
        end
      end)
      if not sent then return end
    end
  end
end

-- Subscribes to the parent while there is somebody to pass values on to, once for all of them.
local function join(self)
  local now = getSystemTime()
  if not parent(self) or #self.subscribers == 0 or self.above > now + LEASE / 2 then return end
  -- What comes down is believed if it brings the word that we sent up.
  self.token = self.token or sha256(getNodeID() .. math.random() .. math.random())
  local ask = { subscribe = LEASE, has = self.number, token = self.token }
  local sent = pcall(get, parent(self), nil, ask, function(self, granted)
    if type(granted) ~= "table" or not granted.granted then
      self.above = 0
    elseif granted.number > self.number then
      self.number, self.newest = granted.number, granted.value
      fan_out(self)
    end
  end)
  if sent then self.above = now + LEASE end
end

function aso:onPut(caller)
  local up = type(self.value) == "table" and self.value.parent
  if up and type(up) ~= "string" or self.value ~= nil and type(self.value) ~= "table" then
    return false, "parent must be the key of the topic above, or absent at the root"
  end
end

function aso:onGet(caller, callbackKey, asked)
  if asked == nil then return self.newest end
  local seconds = type(asked) == "table" and asked.subscribe
  if type(seconds) ~= "number" or not (seconds >= 1) then return { refused = "subscribe must say for how many seconds" } end
  if not callbackKey then return { refused = "a subscription needs a callback key" } end
  seconds = math.min(seconds, DAY)
  local found
  for _, s in self.subscribers do
    if s.node == caller and s.key == callbackKey then found = s end
  end
  if not found then
    if #self.subscribers >= SUBSCRIBERS_MAX then return { refused = "there are too many subscribers" } end
    found = { node = caller, key = callbackKey }
    table.insert(self.subscribers, found)
  end
  -- The answer brings the newest value, so that is what the subscriber has.
  found.expires, found.has = getSystemTime() + seconds, self.number
  found.token = type(asked.token) == "string" and string.sub(asked.token, 1, 64) or nil
  join(self)
  return { granted = seconds, number = self.number, value = self.newest }
end

-- At the root anything is published; below, only what our parent sends is passed on.
function aso:onUpdate(caller, value, incoming)
  if incoming.hasCode then return false, "the topic is there already" end
  if not parent(self) then
    self.number, self.newest = self.number + 1, value
  else
    local ours = type(value) == "table" and self.token and value.token == self.token
    if not ours or type(value.number) ~= "number" then return false, "values are published at the root" end
    if value.number <= self.number then return end
    self.number, self.newest = value.number, value.value
  end
  fan_out(self)
end

function aso:onTimer()
  fan_out(self)
  join(self)
end
