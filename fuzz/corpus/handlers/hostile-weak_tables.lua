-- expect: handler_steps or handler_memory
function aso:onGet()
  while true do
    local t = setmetatable({}, { __mode = "kv" })
    for i = 1, 100 do t[{}] = {} end
  end
end
