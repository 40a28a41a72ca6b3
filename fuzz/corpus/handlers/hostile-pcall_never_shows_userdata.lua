-- expect: true
-- What a protected call catches is a string or the script's own value.
function aso:onGet()
  local seen = {}
  local calls = {
    function() get() end, function() put({}) end, function() lookup(function() end) end,
    function() key({}) end, function() sha256({}) end, function() verify(1, 2, 3) end,
    function() log(nil .. "") end, function() string.rep() end, function() math.random({}) end,
    function() getmetatable() end, function() setmetatable("", {}) end, function() table.sort(1) end,
    function() string.format("%d", "x") end, function() string.format("%y", 1) end, function() error() end,
    function() error(nil) end, function() (nil)() end, function() return #nil end, function() return {} < {} end,
    function() table.concat({ {} }) end, function() string.char(-1) end, function() utf8.char(-1) end,
    function() table.create(-1) end, function() select(0) end, function() bit32.bor({}) end,
  }
  for i, call in ipairs(calls) do
    local ok, problem = pcall(call)
    local kind = type(problem)
    if ok or (kind ~= "string" and kind ~= "nil") then seen[#seen + 1] = i .. " " .. kind end
    xpcall(call, function(caught)
      if type(caught) ~= "string" and caught ~= nil then seen[#seen + 1] = i .. " in handler" end
    end)
  end
  return #seen == 0 or table.concat(seen, ", ")
end
