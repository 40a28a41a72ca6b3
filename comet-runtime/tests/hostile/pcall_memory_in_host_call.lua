-- expect: handler_memory
-- Memory that runs out inside a function of the host is no error object that a script could keep.
function aso:onGet()
  local hoard, size = {}, 4096
  while size >= 16 do
    if not pcall(function() hoard[#hoard + 1] = string.rep("x", size) .. #hoard end) then size = size / 2 end
  end
  for i = 1, 100 do
    local ok, problem = pcall(sha256, "x" .. i)
    hoard[#hoard + 1] = problem
  end
  return true
end
