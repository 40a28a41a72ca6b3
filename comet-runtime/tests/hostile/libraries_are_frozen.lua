-- expect: true
function aso:onGet()
  local writes = {
    function() string.rep = nil end, function() table.x = 1 end, function() math.pi = 3 end, function() dht.get = 1 end,
    function() dht.localNode.x = 1 end, function() bit32.x = 1 end, function() utf8.x = 1 end,
    function() rawset(string, "rep", nil) end, function() rawset(table, "x", 1) end, function() table.clear(string) end,
    function() table.insert(string, 1) end, function() table.sort(table) string[1] = 1 end,
    function() setmetatable(string, {}) end, function() setmetatable(math, {}) end,
    function() getmetatable("").__index = {} end, function() getmetatable("").__add = 1 end,
    function() rawset(getmetatable(""), "__index", {}) end, function() table.clear(getmetatable("")) end,
    function() table.move({ 1 }, 1, 1, 1, string) end,
  }
  for i, write in ipairs(writes) do
    local passed, problem = pcall(write)
    if passed then return i .. " passed" end
    if not string.find(problem, "readonly", 1, true) and not string.find(problem, "locked", 1, true) then
      return i .. " failed otherwise: " .. problem
    end
  end
  return ("x"):rep(2) == "xx"
end
