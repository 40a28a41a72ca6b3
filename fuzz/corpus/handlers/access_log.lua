-- Notes who stored and read it and where it lived: { value = …, reader = public key, entries = 32 }.
--
-- The log is the answer to { log = true }, or, where a reader is named or the object has an owner, to
-- { log = { at = time, signature = … } } over "access-log KEY CALLER TIME" with that key. It travels with copies.
local FRESH_SECONDS = 300
local HOMES = 16

aso.homes, aso.reads = {}, {}

-- An entry is { when, what, by whom, host's id, host's address }; the oldest makes room.
local function note(list, most, what, caller)
  table.insert(list, { getSystemTime(), what, caller, getNodeID(), getNodeIP() })
  if #list > most then table.remove(list, 1) end
end

function aso:onPut(caller)
  local v = self.value
  local entries = type(v) == "table" and (v.entries or 32)
  local reader = type(v) == "table" and (v.reader or caller.owner)
  if type(entries) ~= "number" or not (entries >= 1 and entries <= 256) or v.value == nil
    or reader and (type(reader) ~= "string" or #reader ~= 64) then
    return false, "the value must be { value = …, reader = a public key's 64 digits, entries = 1 to 256 }"
  end
  self.entries, self.reader = entries, reader
  note(self.homes, HOMES, caller.replica and "copied" or "stored", caller)
end

local function may_read_log(self, caller, proof)
  if not self.reader then return true end
  if type(proof) ~= "table" or type(proof.at) ~= "number" or type(proof.signature) ~= "string" then return false end
  local message = string.format("access-log %s %s %d", getASOKey(), caller.id, proof.at)
  return math.abs(getSystemTime() - proof.at) <= FRESH_SECONDS and verify(self.reader, message, proof.signature)
end

function aso:onGet(caller, _, payload)
  if type(payload) == "table" and payload.log then
    if not may_read_log(self, caller, payload.log) then return { refused = "the log is its owner's" } end
    return { homes = self.homes, reads = self.reads }
  end
  note(self.reads, self.entries, "read", caller)
  return self.value.value
end

-- A stranger's put would take the log away with the value.
function aso:onUpdate(caller)
  return caller.owner ~= nil, "only its owner may change it"
end
