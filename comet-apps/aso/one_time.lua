-- Gives its value to one reader: { value = …, voters = { node, … } } or { value = …, count = replicas }.
--
-- The replica that is read claims the value and asks the others for their votes; with a majority it hands the
-- value out and deletes the rest. A replica votes for one claim and says so on disk first. A claim that fails is
-- withdrawn, so that a later one can win; one_time.rs says why no two ever do.
aso.timer = 60
aso.durable = true

-- Whose claims these are: another's after every restart, since what was claimed before may not be on disk.
local claimant, turn = math.random(2147483647), 0

local function is_count(n)
  return type(n) == "number" and n >= 1 and n <= 20 and n % 1 == 0
end

-- True if the list names this node; nil if it is no list of nodes.
local function names_me(nodes)
  local found = false
  for _, node in nodes do
    if getmetatable(node) ~= "node" then return nil end
    found = found or node.id == getNodeID()
  end
  return found
end

function aso:onPut(caller)
  local v = self.value
  local voters = type(v) == "table" and v.voters
  self.count = type(voters) == "table" and #voters or type(v) == "table" and v.count or 8
  local seated = type(voters) ~= "table" or names_me(voters)
  if type(v) ~= "table" or v.value == nil or not is_count(self.count) or seated == nil then
    return false, "the value must be { value = …, voters = 1 to 20 nodes } or { value = …, count = 1 to 20 }"
  end
  -- A copy has no vote: there are never more votes than the put gave out.
  self.seated = seated and not caller.replica
end

-- Votes unless another claim has the vote. A claimant that takes a new turn has given its earlier ones up.
local function vote(self, by, turn)
  local given = self.vote
  if not self.seated or given and not (given.by == by and given.turn < turn) then return false end
  self.vote = { by = by, turn = turn }
  return true
end

local function answer(self, caller, claim)
  if type(claim.by) ~= "number" or type(claim.turn) ~= "number" then return false end
  local by, given = caller.id .. " " .. claim.by, self.vote
  if not claim.withdrawn then return vote(self, by, claim.turn) end
  if given and given.by == by and given.turn == claim.turn then self.vote = nil end
  return true
end

local function tell(self, claim, callback)
  return get(getASOKey(), self.value.voters or self.count, { claim = claim }, callback)
end

local function erase_others()
  -- What cannot be told now is told at the next ticks.
  pcall(put, getASOKey(), nil, 20, function() end)
end

function aso:onGet(caller, _, payload)
  if type(payload) == "table" and type(payload.claim) == "table" then return answer(self, caller, payload.claim) end
  -- Who names the replica that is to claim hears from the others whether there is anything to claim.
  local named = type(payload) == "table" and payload.claimant
  if type(named) == "string" and named ~= getNodeID() then return { unread = not self.read } end
  if self.read then return nil end
  turn = turn + 1
  local claim = { by = claimant, turn = turn }
  local votes = vote(self, getNodeID() .. " " .. claim.by, claim.turn) and 1 or 0
  -- A replica that is read in another's stead may have too few messages to ask anybody.
  local asked, answers = pcall(tell, self, claim)
  for _, heard in asked and answers or {} do
    if heard.value == true then votes = votes + 1 end
  end
  if self.read then return nil end
  if turn ~= claim.turn then return { refused = "another reader was faster; ask again" } end
  if votes <= self.count / 2 then
    claim.withdrawn = true
    answer(self, { id = getNodeID() }, claim)
    pcall(tell, self, claim, function() end)
    return { refused = `{votes} of {self.count} replicas agreed and a majority must; ask again later` }
  end
  self.read = true
  erase_others()
  return self.value.value
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
