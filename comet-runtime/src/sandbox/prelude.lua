-- What a handler can see: the allow-list of globals, built once per VM and frozen.
--
-- `host` holds the functions that Rust lends to this file. They never raise: they return nil and a
-- sentence, and the sentence is raised here, where it gets the author's line. Library functions whose work
-- grows with their input are wrapped, because a library call has no interrupt inside.

local host = ...

local error, pcall, xpcall, select, type = error, pcall, xpcall, select, type
local tostring, tonumber, getmetatable, rawequal = tostring, tonumber, getmetatable, rawequal
local yield = coroutine.yield
local unpack, concat, freeze, sort = table.unpack, table.concat, table.freeze, table.sort
local random, randomseed = math.random, math.randomseed
local raw_find, raw_sub = string.find, string.sub

local SUBJECT_MAX, PATTERN_MAX, WORK_MAX = host.subject_max, host.pattern_max, host.work_max
local CHEAP = 1024
local MOVED_MAX = 65536
local BALANCED_MAX = 8192

-- Nodes -----------------------------------------------------------------------------------------------

-- Who caused the turn that runs now: its `node`, and what came with the contact.
local contact = {}

local node_meta = host.node_meta
node_meta.__metatable = "node"

function node_meta.__index(node, field)
  if field == "getIP" then
    return function() return node.ip end
  elseif field == "getPort" then
    return function() return node.port end
  elseif field == "getID" then
    return function() return node.id end
  elseif field == "key" or field == "owner" or field == "replica" then
    return rawequal(node, contact.node) and contact[field] or nil
  end
  return nil
end

function node_meta.__tostring(node)
  return "node " .. raw_sub(node.id, 1, 8)
end

-- Talking to the swarm --------------------------------------------------------------------------------

-- Waits for the answer to request `id`: the answer, or nil and why there is none.
local function await(id)
  return yield(id)
end

local function get(key, nodes, payload, callback)
  if type(nodes) == "function" then
    nodes, callback = nil, nodes
  elseif type(payload) == "function" then
    payload, callback = nil, payload
  end
  local id, problem = host.get(key, nodes, payload, callback)
  if not id then error(problem, 2) end
  if callback then return nil end
  return await(id)
end

local function put(key, data, nodes, callback)
  if type(nodes) == "function" then nodes, callback = nil, nodes end
  local id, problem = host.put(key, data, nodes, callback)
  if not id then error(problem, 2) end
  if callback then return nil end
  return await(id)
end

local function lookup(key, callback)
  local id, problem = host.lookup(key, callback)
  if not id then error(problem, 2) end
  if callback then return nil end
  return await(id)
end

local function checked(name)
  local f = host[name]
  return function(a, b, c)
    local result, problem = f(a, b, c)
    if problem then error(problem, 2) end
    return result
  end
end

-- Text without addresses ------------------------------------------------------------------------------

local opaque = { table = true, ["function"] = true, thread = true, userdata = true, buffer = true }

local function text_of(x)
  local kind = type(x)
  if not opaque[kind] then return tostring(x) end
  local meta = getmetatable(x)
  if meta == "node" then return node_meta.__tostring(x) end
  local custom = type(meta) == "table" and meta.__tostring
  if custom then
    local text = custom(x)
    if type(text) ~= "string" then error("'__tostring' must return a string", 2) end
    return text
  end
  return kind
end

local raw_format = string.format

local function format(form, ...)
  local count = select("#", ...)
  for i = 1, count do
    if opaque[type((select(i, ...)))] then
      local args = { ... }
      for k = i, count do
        if opaque[type(args[k])] then args[k] = text_of(args[k]) end
      end
      return raw_format(form, unpack(args, 1, count))
    end
  end
  return raw_format(form, ...)
end

local function log(...)
  local parts = { ... }
  for i = 1, select("#", ...) do parts[i] = text_of((select(i, ...))) end
  host.log(concat(parts, " "))
end

-- Protected calls -------------------------------------------------------------------------------------

-- A limit is not catchable: running out of memory inside a protected call still ends the turn. In a function
-- of the host it arrives as an error object of Rust's, and nothing else does.
-- A text that points into this file loses that point: it means nothing to the author.
local function caught(problem)
  if problem == "not enough memory" or type(problem) == "userdata" then host.out_of_memory() end
  if type(problem) ~= "string" then return problem end
  local _, last = raw_find(problem, "^comet:%d+: ")
  return last and raw_sub(problem, last + 1) or problem
end

local function settle(ok, ...)
  if ok then return ok, ... end
  return false, caught((...))
end

local function safe_pcall(f, ...)
  return settle(pcall(f, ...))
end

local function safe_xpcall(f, handler, ...)
  return settle(xpcall(f, function(problem)
    return handler(caught(problem))
  end, ...))
end

-- Library calls whose work must be bounded ------------------------------------------------------------

local function bounded_match(name)
  local f = string[name]
  return function(subject, pattern, ...)
    if type(subject) == "string" and type(pattern) == "string" then
      local s, p = #subject, #pattern
      if s > SUBJECT_MAX then
        error(raw_format("string.%s: the subject has %d bytes and the limit is %d", name, s, SUBJECT_MAX), 2)
      elseif p > PATTERN_MAX then
        error(raw_format("string.%s: the pattern has %d bytes and the limit is %d", name, p, PATTERN_MAX), 2)
      elseif s * p > WORK_MAX then
        error(raw_format("string.%s: subject times pattern is %d and the limit is %d", name, s * p, WORK_MAX), 2)
      elseif s > BALANCED_MAX and raw_find(pattern, "%b", 1, true) then
        -- From each place where a pair begins, the matcher walks on to its end, perhaps that of the subject.
        error(raw_format("string.%s: the subject of %%b has %d bytes and the limit is %d", name, s, BALANCED_MAX), 2)
      elseif s * p > CHEAP then
        host.charge(s * p)
      end
    end
    return f(subject, pattern, ...)
  end
end

-- Linear work over a string or a table: charged by its length.
local function charged(f)
  return function(x, ...)
    local kind = type(x)
    if (kind == "string" or kind == "table") and rawlen(x) > CHEAP then host.charge(rawlen(x)) end
    return f(x, ...)
  end
end

local raw_move = table.move

-- Its work is not in the table's length but in the range, whether or not there is anything in it.
local function move(t, first, last, ...)
  if type(first) == "number" and type(last) == "number" then
    local count = last - first + 1
    if count > MOVED_MAX then
      error(raw_format("table.move: the range has %.0f places and the limit is %d", count, MOVED_MAX), 2)
    elseif count > 0 then
      host.charge(count * 16)
    end
  end
  return raw_move(t, first, last, ...)
end

local raw_rep = string.rep

local function rep(s, n, ...)
  if type(s) == "string" and type(n) == "number" and #s * n > CHEAP then
    if #s * n > host.alloc_max then
      error(raw_format("string.rep: the result would have %.0f bytes and the limit is %d", #s * n, host.alloc_max), 2)
    end
    host.charge(#s * n)
  end
  return raw_rep(s, n, ...)
end

local function safe_sort(t, before)
  if before ~= nil and type(before) ~= "function" then error("table.sort: the comparator must be a function", 2) end
  return sort(t, before or function(a, b) return a < b end)
end

local function seeded_random(...)
  local seed = host.fresh_seed()
  if seed then randomseed(seed) end
  return random(...)
end

local function safe_tonumber(x, ...)
  if type(x) == "string" and #x > 1024 then return nil end
  return tonumber(x, ...)
end

-- The allow-list --------------------------------------------------------------------------------------

local function pick(library, names)
  local out = {}
  for name in string.gmatch(names, "%w+") do out[name] = library[name] end
  return out
end

local allowed_string = pick(string, "byte char find format gmatch gsub len lower match pack packsize rep reverse split sub unpack upper")
for _, name in { "find", "gmatch", "gsub", "match", "split" } do allowed_string[name] = bounded_match(name) end
for _, name in { "lower", "upper", "reverse" } do allowed_string[name] = charged(string[name]) end
allowed_string.format = format
allowed_string.rep = rep

local allowed_table = pick(table, "clear clone concat create find freeze insert isfrozen maxn move pack remove sort unpack")
for _, name in { "clone", "concat", "find", "insert", "maxn", "remove" } do
  allowed_table[name] = charged(table[name])
end
allowed_table.move = move
allowed_table.sort = safe_sort

local allowed_math = pick(math, "abs acos asin atan2 atan ceil clamp cos cosh deg exp floor fmod frexp ldexp lerp log10 log map max min modf noise pow rad random round sign sin sinh sqrt tan tanh")
allowed_math.pi, allowed_math.huge = math.pi, math.huge
allowed_math.random = seeded_random

local allowed_utf8 = pick(utf8, "char codepoint codes len offset")
for _, name in { "len", "offset", "codes" } do allowed_utf8[name] = charged(utf8[name]) end
allowed_utf8.charpattern = utf8.charpattern

local allowed_bit32 = pick(bit32, "arshift band bnot bor btest bxor byteswap countlz countrz extract lrotate lshift replace rrotate rshift")

-- Methods of strings go through the string metatable, so that table gets the bounded functions, too.
table.clear(string)
for name, f in allowed_string do string[name] = f end

local key = checked("child_key")
local sha256 = checked("sha256")
local verify = checked("verify")

local allowed = {
  assert = assert, error = error, getmetatable = getmetatable, ipairs = ipairs, next = next, pairs = pairs,
  pcall = safe_pcall, rawequal = rawequal, rawget = rawget, rawlen = rawlen, rawset = rawset, select = select,
  setmetatable = setmetatable, tonumber = safe_tonumber, tostring = text_of, type = type, typeof = typeof,
  unpack = unpack, xpcall = safe_xpcall,
  bit32 = freeze(allowed_bit32), math = freeze(allowed_math), string = string, table = freeze(allowed_table),
  utf8 = freeze(allowed_utf8),

  getSystemTime = host.system_time, getNodeIP = host.node_ip, getNodeID = host.node_id, getASOKey = host.own_key,
  deleteSelf = host.delete_self, get = get, put = put, lookup = lookup, key = key, sha256 = sha256,
  verify = verify, log = log,
}
allowed.dht = freeze({
  getSystemTime = host.system_time, getKey = host.own_key, deleteSelf = host.delete_self,
  get = get, put = put, lookup = lookup, key = key, sha256 = sha256, verify = verify, log = log,
  localNode = freeze({ getIP = host.node_ip, getID = host.node_id, getPort = host.node_port }),
})

-- Every object's environment falls back to the list and owns nothing else; nobody can see or change how.
local env_meta = freeze({ __index = freeze(allowed), __metatable = "locked" })

freeze(node_meta)
return env_meta, contact
