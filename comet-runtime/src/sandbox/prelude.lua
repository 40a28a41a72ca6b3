-- What a handler can see: the allow-list of globals, built once per VM and frozen.
--
-- `host` holds the functions that Rust lends to this file. They never raise: they return nil and a
-- sentence, and the sentence is raised here, where it gets the author's line. `libraries.lua` bounds the
-- libraries.

local host = ...

local error, pcall, xpcall, select, type = error, pcall, xpcall, select, type
local tostring, getmetatable, rawequal = tostring, getmetatable, rawequal
local yield = coroutine.yield
local concat, freeze = table.concat, table.freeze
local raw_find, raw_sub = string.find, string.sub

-- Longest beginning of a text in which a point of this file may stand.
local POINT_MAX = 16

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

-- One table may show the node's address, and another may not.
function node_meta.__eq(a, b)
  return a.id == b.id
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

local function log(...)
  local parts = { ... }
  for i = 1, select("#", ...) do parts[i] = text_of(parts[i]) end
  host.log(concat(parts, " "))
end

-- Protected calls -------------------------------------------------------------------------------------

-- A limit is not catchable: running out of memory inside a protected call still ends the turn. In a function
-- of the host it arrives as an error object of Rust's, and nothing else does.
-- A text that points into this file loses that point: it means nothing to the author.
local function caught(problem)
  if problem == "not enough memory" or type(problem) == "userdata" then host.out_of_memory() end
  if type(problem) ~= "string" then return problem end
  local _, last = raw_find(raw_sub(problem, 1, POINT_MAX), "^comet:%d+: ")
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

-- The allow-list --------------------------------------------------------------------------------------

local libraries = host.libraries(host, text_of)

local key = checked("child_key")
local sha256 = checked("sha256")
local verify = checked("verify")

local allowed = {
  assert = assert, error = error, getmetatable = getmetatable, ipairs = ipairs, next = next, pairs = pairs,
  pcall = safe_pcall, rawequal = rawequal, rawget = rawget, rawlen = rawlen, rawset = rawset, select = select,
  setmetatable = setmetatable, tonumber = libraries.tonumber, tostring = text_of, type = type, typeof = typeof,
  unpack = table.unpack, xpcall = safe_xpcall,
  bit32 = libraries.bit32, math = libraries.math, string = libraries.string, table = libraries.table,
  utf8 = libraries.utf8,

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
