-- Introduces BitTorrent peers to those that are near them. A peer is two strings: its address (6 bytes for IPv4,
-- 18 for IPv6; BEP 23 and 7), and under it when it announced, what it is, where it is, and its id.
aso.timer = 60
aso.peers = {}
aso.downloaded = 0

-- Minutes, flags, x, y, height and id. With as many peers as are kept, all of IPv6, an object has 10 KB.
local RECORD, RECORD_BYTES = ">I2Bi2i2I2c20", 29
local SEED, PLACED = 1, 2
local NEWS, GONE = 4, 8   -- the other replicas have not heard of it; it has stopped
local PEERS_MAX, PEERS_KEPT, WANT_MAX = 192, 180, 50

local function setting(self, name, default)
  return type(self.value) == "table" and self.value[name] or default
end

local function is_address(text)
  return type(text) == "string" and (#text == 6 or #text == 18)
end

local function is_number(n, least, most)
  return type(n) == "number" and n >= least and n <= most
end

local EVENTS = { [""] = true, started = true, stopped = true, completed = true }

-- What is wrong with an announce, or nil.
local function fault(announce)
  local at = announce.coordinates
  if type(announce.peer_id) ~= "string" or #announce.peer_id ~= 20 then
    return "peer_id must have 20 bytes"
  elseif not is_address(announce.address) or string.sub(announce.address, -2) == "\0\0" then
    return "address must be an IP address and a port, 6 or 18 bytes"
  elseif not is_number(announce.left, 0, math.huge) then
    return "left must say how many bytes the peer lacks"
  elseif not EVENTS[announce.event or ""] then
    return "event must be started, stopped, completed or empty"
  elseif at ~= nil and not (type(at) == "table" and is_number(at[1], -10000, 10000)
    and is_number(at[2], -10000, 10000) and is_number(at[3], 0, 10000)) then
    return "coordinates must be { x, y, height } in milliseconds"
  end
end

-- Minutes, as far as two bytes go: 45 days.
local function minutes()
  return getSystemTime() // 60 % 65536
end

-- Lengths are kept in half milliseconds, so that two bytes hold ten seconds.
local function record_of(announce)
  local flags, at = announce.left == 0 and SEED + NEWS or NEWS, { 0, 0, 0 }
  if announce.coordinates then flags, at = flags + PLACED, announce.coordinates end
  local x, y, height = math.round(2 * at[1]), math.round(2 * at[2]), math.round(2 * at[3])
  return string.pack(RECORD, minutes(), flags, x, y, height, announce.peer_id)
end

local function has(record, flag)
  return bit32.btest(string.byte(record, 3), flag)
end

-- The record with these of its flags alone, and others.
local function flagged(record, kept, added)
  local flags = bit32.bor(bit32.band(string.byte(record, 3), kept), added)
  return string.sub(record, 1, 2) .. string.char(flags) .. string.sub(record, 4)
end

-- Keeps a peer. One that lacked something and now lacks nothing has downloaded it.
local function keep(self, address, record)
  local before = self.peers[address]
  if before and has(record, SEED) and not has(before, SEED) then self.downloaded += 1 end
  self.peers[address] = record
end

-- A peer that stops stays until the others have heard of it.
local function stop(self, address, id)
  local record = self.peers[address]
  local known = record and string.sub(record, -20) == id and not has(record, GONE)
  if known then self.peers[address] = flagged(record, SEED, GONE + NEWS) end
  return known
end

-- With too many peers the longest silent ones give way, some at a time since finding them is work.
local function make_room(self)
  local addresses, age = {}, {}
  for address, record in self.peers do
    table.insert(addresses, address)
    age[address] = (minutes() - string.unpack(">I2", record)) % 65536
  end
  if #addresses <= PEERS_MAX then return end
  table.sort(addresses, function(a, b) return age[a] < age[b] end)
  for i = PEERS_KEPT + 1, #addresses do self.peers[addresses[i]] = nil end
end

-- Tells the other replicas; what cannot be sent now goes with the next tick. A put would leave a plain value
-- on nodes that hold no replica; a get leaves nothing there.
local function share(self)
  local news = {}
  for address, record in self.peers do
    if has(record, NEWS) then news[address] = record end
  end
  if not next(news) or not pcall(get, getASOKey(), 8, { peers = news }, function() end) then return end
  for address, record in news do
    self.peers[address] = if has(record, GONE) then nil else flagged(record, SEED + PLACED, 0)
  end
end

-- The round trip that we expect from the asker to a peer: by coordinates, else by how much of their addresses
-- agrees, else anything.
local function guess_from(asker, own_address)
  local long = #own_address == 18
  local net, wide = string.sub(own_address, 1, long and 6 or 3), string.sub(own_address, 1, long and 4 or 2)
  local at = asker.coordinates
  return function(address, placed, x, y, height)
    local other_family = #address == #own_address and 0 or 1000
    if at and placed then
      local dx, dy = at[1] - x / 2, at[2] - y / 2
      return other_family + math.sqrt(dx * dx + dy * dy) + at[3] + height / 2
    elseif string.sub(address, 1, #net) == net then
      return other_family + 5
    elseif string.sub(address, 1, #wide) == wide then
      return other_family + 40
    end
    return other_family + 100 + 100 * math.random()
  end
end

-- One pass over all peers: forgets the silent, counts the rest, and lists whom a peer may want to know.
local function survey(self, asker)
  local silent = (2 * setting(self, "interval", 1800) + 60) / 60
  local guess = asker and guess_from(asker, asker.address)
  local seeds, leechers, found, expected = 0, 0, {}, {}
  for address, record in self.peers do
    local seen, flags, x, y, height = string.unpack(RECORD, record)
    local seed = bit32.btest(flags, SEED)
    if (minutes() - seen) % 65536 > silent then
      self.peers[address] = nil
    elseif flags < GONE then
      if seed then seeds += 1 else leechers += 1 end
      -- A seed has nothing to ask of a seed.
      if guess and address ~= asker.address and not (seed and asker.left == 0) then
        found[#found + 1] = address
        expected[address] = guess(address, bit32.btest(flags, PLACED), x, y, height)
      end
    end
  end
  return { complete = seeds, incomplete = leechers, downloaded = self.downloaded }, found, expected
end

-- The nearest, but every fifth at random, so that neighbourhoods do not become islands (Bindal et al., 2006).
local function choose(found, expected, want)
  if #found <= want then return found end
  table.sort(found, function(a, b) return expected[a] < expected[b] end)
  local near = math.ceil(want * 4 / 5)
  for i = near + 1, want do
    local other = math.random(i, #found)
    found[i], found[other] = found[other], found[i]
  end
  return table.move(found, 1, want, 1, {})
end

-- Addresses by family, joined; with the ids of the same peers in the same order if they are asked for.
local function compact(self, addresses, with_ids)
  local short, long, ids, long_ids = {}, {}, {}, {}
  for _, address in addresses do
    local id = string.sub(self.peers[address], -20)
    table.insert(#address == 6 and short or long, address)
    table.insert(#address == 6 and ids or long_ids, id)
  end
  return table.concat(short), table.concat(long), with_ids and table.concat(ids) .. table.concat(long_ids) or nil
end

-- What another replica has heard. Clocks differ: the time is when we heard it.
local function learn(self, peers)
  local now = string.pack(">I2", minutes())
  for address, record in peers do
    if is_address(address) and type(record) == "string" and #record == RECORD_BYTES then
      if has(record, GONE) then
        if stop(self, address, string.sub(record, -20)) then self.peers[address] = nil end
      else
        keep(self, address, now .. string.sub(flagged(record, SEED + PLACED, 0), 3))
      end
    end
  end
  make_room(self)
end

function aso:onPut(caller)
  if not is_number(setting(self, "interval", 1800), 60, 86400) then
    return false, "interval must be 60 to 86400 seconds"
  end
end

function aso:onGet(caller, callbackKey, announce)
  if announce == nil then return (survey(self)) end
  if type(announce) == "table" and type(announce.peers) == "table" then return learn(self, announce.peers) end
  local problem = type(announce) ~= "table" and "an announce is a map" or fault(announce)
  if problem then return { refused = problem } end
  if announce.event == "stopped" then
    if stop(self, announce.address, announce.peer_id) then share(self) end
    return (survey(self))
  end
  keep(self, announce.address, record_of(announce))
  if (announce.event or "") ~= "" then share(self) end
  local reply, found, expected = survey(self, announce)
  local want = is_number(announce.numwant, 0, math.huge) and math.min(math.floor(announce.numwant), WANT_MAX) or 20
  found = choose(found, expected, want)
  reply.peers, reply.peers6, reply.ids = compact(self, found, announce.ids)
  reply.interval = setting(self, "interval", 1800)
  -- Who has met few peers comes back sooner.
  if #found < math.min(want, 5) then reply.interval = math.min(reply.interval, 120) end
  if reply.complete + reply.incomplete > PEERS_MAX then make_room(self) end
  return reply
end

function aso:onUpdate(caller)
  return false, "peers announce with a get"
end

function aso:onTimer()
  survey(self)
  share(self)
end
