-- expect: true
function aso:onGet()
  for _, n in ipairs({ 0 / 0, 1 / 0, -1 / 0, 2 ^ 53, -2 ^ 53, 2 ^ 63, -2 ^ 63, 1e308, -0, 5e-324 }) do
    self.n = n
    pcall(key, n) pcall(get, getASOKey(), n) pcall(put, getASOKey(), n, n, function() end)
    pcall(string.rep, "x", n) pcall(string.sub, "x", n, n) pcall(string.byte, "x", n, n) pcall(table.create, n)
    pcall(table.concat, { 1 }, "", n, n) pcall(table.insert, {}, n, 1) pcall(table.unpack, {}, n, n)
    pcall(math.random, n) pcall(math.random, n, n) pcall(utf8.char, n) pcall(utf8.offset, "x", n)
    pcall(string.format, "%d %x %c %s", n, n, n, n) pcall(bit32.lshift, n, n) pcall(select, n, 1) pcall(tostring, n)
    pcall(tonumber, "10", n) pcall(string.pack, "i16", n) pcall(string.find, "x", "x", n) pcall(table.move, {}, n, n, n)
    pcall(table.find, {}, 1, n) pcall(table.remove, {}, n) pcall(utf8.codepoint, "x", n, n) pcall(string.char, n)
  end
  self.n = nil
  return true
end
