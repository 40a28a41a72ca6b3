-- expect: true
-- Thousands of arguments to every function of the host.
function aso:onGet()
  local many = {}
  for i = 1, 7000 do many[i] = "a" .. i end
  for _, f in ipairs({ get, put, lookup, key, sha256, verify, getSystemTime, getNodeIP, getNodeID, getASOKey }) do
    pcall(f, table.unpack(many))
    pcall(f, many, many, many, many, many)
  end
  return true
end
