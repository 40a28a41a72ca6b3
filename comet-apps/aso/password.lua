-- Gives its value to who knows the password: { value = …, salt = …, verifier = sha256(salt .. ":" .. password) }.
--
-- A get without the right answer gets a challenge: the salt and this replica's time. The answer,
-- { password = { at = time, response = sha256(verifier:key:caller's id:time) } }, is good from that caller alone,
-- and for two minutes at any replica, since nothing is kept of a challenge. Wrong answers are counted.
local VALID_SECONDS = 120
local TRIES, FORGET_SECONDS, CALLERS = 5, 600, 32

aso.tries = {}

local function is_hash(text)
  return type(text) == "string" and #text == 64 and not string.find(text, "[^0-9a-f]")
end

function aso:onPut(caller)
  local v = self.value
  if type(v) ~= "table" or v.value == nil or type(v.salt) ~= "string" or not is_hash(v.verifier) then
    return false, "the value must be { value = …, salt = text, verifier = 64 hexadecimal digits }"
  elseif v.password ~= nil then
    return false, "the password itself must not be sent; send verifier = sha256(salt .. ':' .. password)"
  end
end

-- { how many, until when }, or nil. Half an id is enough to know a caller by.
local function tries_of(self, id)
  local tries = self.tries[string.sub(id, 1, 32)]
  return if tries and tries[2] > getSystemTime() then tries else nil
end

local function count_failure(self, id)
  local tries = tries_of(self, id) or { 0 }
  self.tries[string.sub(id, 1, 32)] = { tries[1] + 1, getSystemTime() + FORGET_SECONDS }
  local kept, oldest = 0, nil
  for caller, other in self.tries do
    kept += 1
    if not oldest or other[2] < self.tries[oldest][2] then oldest = caller end
  end
  if kept > CALLERS then self.tries[oldest] = nil end
end

local function challenge(self, reason)
  return { refused = reason, salt = self.value.salt, at = getSystemTime() }
end

function aso:onGet(caller, _, payload)
  local given = type(payload) == "table" and payload.password
  if type(given) ~= "table" then return challenge(self, "a password is needed") end
  local at, tries = given.at, tries_of(self, caller.id)
  if tries and tries[1] >= TRIES then
    return { refused = `too many wrong passwords; try again in {tries[2] - getSystemTime()} s` }
  elseif type(at) ~= "number" or not (math.abs(getSystemTime() - at) <= VALID_SECONDS) then
    return challenge(self, "the challenge is over")
  end
  local proof = { self.value.verifier, getASOKey(), caller.id, string.format("%d", at) }
  if given.response ~= sha256(table.concat(proof, ":")) then
    count_failure(self, caller.id)
    return { refused = "the password is wrong" }
  end
  self.tries[string.sub(caller.id, 1, 32)] = nil
  return self.value.value
end

-- A stranger's put would replace the lock; an owner's cannot be anybody else's.
function aso:onUpdate(caller)
  return caller.owner ~= nil, "only its owner may change it"
end
