-- expect: true
function aso:onGet(caller)
  local things = { {}, function() end, log, string.rep, caller, setmetatable({}, {}), self }
  local all = {}
  for _, thing in ipairs(things) do
    all[#all + 1] = tostring(thing)
    all[#all + 1] = string.format("%s %*", thing, thing)
    all[#all + 1] = select(2, pcall(string.format, "%p", thing))
    all[#all + 1] = select(2, pcall(function() return thing .. "" end))
    all[#all + 1] = select(2, pcall(function() return thing.x.y end))
    all[#all + 1] = select(2, pcall(function() return thing + 1 end))
    all[#all + 1] = select(2, pcall(table.concat, { thing }))
    all[#all + 1] = tostring(select(2, pcall(error, thing)))
    log(thing, "and", thing)
  end
  local text = table.concat(all, "\n")
  return not string.find(text, "0x%x%x%x%x") or text
end
