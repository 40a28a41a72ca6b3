-- A get that travels. A query, { target = key }, hops to the nearest node to its target that it knows of and asks
-- there; the target answers the query's home. If nobody there holds the target, it looks again a minute later
-- from where it is.
-- Reaches other keys: a publisher whom the operators trust has to sign it.
aso.timer = 60
aso.ttl = 600
aso.hops = 0

local function is_query(self)
  return type(self.value) == "table" and self.value.target ~= nil
end

local function ask(self)
  local query = { query = getASOKey(), home = self.home, hops = self.hops }
  put(self.value.target, query, 1, function(self, asked)
    -- The home waits for the answer; a stop on the way has done its part.
    if asked and #asked > 0 and self.home then deleteSelf() end
  end)
end

local function hop(self)
  lookup(self.value.target, function(self, nodes)
    local nearest = nodes and nodes[1]
    if not nearest or nearest.id == getNodeID() then return ask(self) end
    self.hops += 1
    put(getASOKey(), self, { nearest }, function(self, holders)
      if self.home and holders and #holders > 0 then deleteSelf() end
    end)
  end)
end

function aso:onPut(caller)
  if not is_query(self) then return end
  if type(self.value.target) ~= "string" then return false, "target must be a key" end
  if not caller.replica then return hop(self) end
  self.home = self.home or caller
  ask(self)
end

function aso:onTimer()
  if is_query(self) and not self.answer then
    if not self.home then self.hops = 0 end
    hop(self)
  end
end

-- At the target comes a query; at the query's home, the answer.
function aso:onUpdate(caller, value, incoming)
  if incoming.hasCode or type(value) ~= "table" then return false, "ask or answer with a map" end
  if is_query(self) then
    if value.hops == nil or self.answer then return false, "there is an answer already" end
    self.answer = { value = value.answer, hops = value.hops }
  elseif type(value.query) == "string" and type(value.hops) == "number" then
    put(value.query, { answer = self.value, hops = value.hops }, value.home and { value.home } or nil, function() end)
  else
    return false, "a query must say where its answer goes"
  end
end

-- A query gives its answer, { value =, hops = }, once it is there; a target its value.
function aso:onGet(caller)
  if is_query(self) then return self.answer end
  return self.value
end
