-- expect: true
-- No message points into the node's own files or at memory.
function aso:onGet()
  local calls = {
    function() get() end, function() get("x") end, function() put("x", {}, 1000) end, function() key(9) end,
    function() string.find(string.rep("x", 70000), "x") end, function() table.sort({}, 1) end,
    function() string.rep("x", 1e9) end, function() setmetatable(string, {}) end, function() string.x = 1 end,
    function() caller.x.y = 1 end, function() tostring(setmetatable({}, { __tostring = function() return 1 end })) end,
    function() error({}) end, function() assert(false) end, function() assert(nil, "x") end,
    function() table.move({}, 1, 1e9, 2) end, function() string.format("%s") end,
  }
  for i, call in ipairs(calls) do
    local ok, problem = pcall(call)
    if ok then return i .. " passed" end
    if type(problem) == "string" and (string.find(problem, "comet", 1, true) or string.find(problem, "/", 1, true)) then
      return problem
    end
  end
  return true
end
