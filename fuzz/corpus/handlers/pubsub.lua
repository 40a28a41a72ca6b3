-- A topic: numbers what is published, keeps the latest of it, and pushes it to those who subscribed. A contact
-- grants one push, so a subscriber asks again after each; the reply brings what it has missed meanwhile.
aso.timer = 60
aso.last = 0           -- number of the newest message
aso.recent = {}        -- { number =, value = }, oldest first
aso.subscribers = {}   -- { node =, key =, after =, rights =, expires = }, the longest subscribed first

local RECENT_MAX, SUBSCRIBERS_MAX, RIGHTS_MAX, VALUE_BYTES_MAX = 16, 200, 4, 1536
local DAY = 24 * 3600

local function is_number(n, least, most)
  return type(n) == "number" and n >= least and n <= most
end

-- Roughly, the bytes of a value.
local function size(value)
  if type(value) == "string" then return #value + 4 end
  local total = 8
  if type(value) == "table" then
    if value.id and value.ip then return 48 end
    for k, v in value do total += size(k) + size(v) end
  end
  return total
end

local function append(self, value, number)
  self.last = number
  table.insert(self.recent, { number = number, value = value })
  if #self.recent > RECENT_MAX then table.remove(self.recent, 1) end
end

local function missed_after(self, number)
  local messages = {}
  for _, message in self.recent do
    if message.number > number then table.insert(messages, message) end
  end
  return messages
end

local function expire(self)
  local kept = {}
  for _, subscriber in self.subscribers do
    if subscriber.expires > getSystemTime() then table.insert(kept, subscriber) end
  end
  self.subscribers = kept
end

-- Pushes to whoever lacks something, as far as rights and messages go; the rest waits for the next tick. The
-- newest goes first when all of it is too much for one message.
local function deliver(self)
  expire(self)
  for _, subscriber in self.subscribers do
    if subscriber.after < self.last and subscriber.rights > 0 then
      local push = { topic = getASOKey(), last = self.last, messages = missed_after(self, subscriber.after) }
      local node, key, last = subscriber.node, subscriber.key, self.last
      local sent, reason = pcall(put, key, push, { node }, function(self, accepted)
        for _, waiting in self.subscribers do
          if waiting.node == node and waiting.key == key and accepted and #accepted > 0 then
            waiting.after = math.max(waiting.after, last)
          end
        end
      end)
      if sent then
        subscriber.rights -= 1
      elseif string.find(reason, "callback key", 1, true) then
        subscriber.rights = 0
      else
        return
      end
    end
  end
end

-- Notes a subscriber, or renews one; returns the seconds granted, or nil and why not.
local function subscribe(self, node, key, seconds, after)
  if not key then return nil, "a subscription needs a callback key" end
  if not is_number(seconds, 1, math.huge) then return nil, "subscribe must say for how many seconds" end
  expire(self)
  seconds = math.min(seconds, DAY)
  local expires = getSystemTime() + seconds
  for _, known in self.subscribers do
    if known.node == node and known.key == key then
      known.expires, known.after = expires, after
      known.rights = math.min(known.rights + 1, RIGHTS_MAX)
      return seconds
    end
  end
  if #self.subscribers >= SUBSCRIBERS_MAX then return nil, "there are too many subscribers" end
  table.insert(self.subscribers, { node = node, key = key, after = after, rights = 1, expires = expires })
  return seconds
end

-- Who has not been reached with the newest message.
local function status(self)
  expire(self)
  local unreached = {}
  for _, subscriber in self.subscribers do
    if subscriber.after < self.last then
      table.insert(unreached, { node = subscriber.node, key = subscriber.key, after = subscriber.after, rights = subscriber.rights })
    end
  end
  return { last = self.last, subscribers = #self.subscribers, unreached = unreached }
end

function aso:onPut(caller)
  local settings = self.value or {}
  if type(settings) ~= "table" or (settings.publisher ~= nil and settings.publisher ~= "anyone" and settings.publisher ~= "owner") then
    return false, "publisher must be anyone or owner"
  end
  if self.last == 0 and settings.value ~= nil then append(self, settings.value, 1) end
end

function aso:onGet(caller, callbackKey, asked)
  if asked == nil then
    local newest = self.recent[#self.recent]
    return newest and newest.value
  elseif type(asked) ~= "table" then
    return { refused = "ask with a map" }
  elseif asked.status then
    return status(self)
  end
  local after = asked.after == nil and self.last or asked.after
  if not is_number(after, 0, 2 ^ 53) then return { refused = "after must be the number of a message" } end
  local granted, reason
  if asked.subscribe ~= nil then
    granted, reason = subscribe(self, caller, callbackKey, asked.subscribe, after)
    if not granted then return { refused = reason } end
  end
  local messages = missed_after(self, after)
  -- What this reply carries counts as delivered when the next question says so with its `after`.
  return { last = self.last, messages = messages, forgotten = math.max(self.last - after, 0) - #messages, granted = granted }
end

-- A put publishes its value. Replicas number for themselves; `{ publish =, number = }` keeps them together.
function aso:onUpdate(caller, value, incoming)
  if incoming.hasCode then return false, "the topic is there already" end
  if self.value and self.value.publisher == "owner" and not caller.owner then
    return false, "only the owner publishes here"
  end
  local number = self.last + 1
  if type(value) == "table" and value.publish ~= nil then
    if is_number(value.number, number, number + 1000000) and value.number % 1 == 0 then number = value.number end
    value = value.publish
  end
  if value == nil then return false, "there is nothing to publish" end
  if size(value) > VALUE_BYTES_MAX then return false, "a message may have 1.5 KiB" end
  append(self, value, number)
  deliver(self)
end

function aso:onTimer()
  deliver(self)
end
