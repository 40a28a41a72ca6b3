-- expect: true
-- What the library would cut to 32 bits, or is no number, is no place.
function aso:onGet()
  local nan, inf = 0 / 0, math.huge
  for _, range in { { nan, -2 }, { -2147483648, -2 }, { -inf, -2 }, { 1, inf }, { 2 ^ 32 + 1, 2 ^ 33 }, { nan, nan } } do
    if pcall(table.move, {}, range[1], range[2], 1) then return false end
  end
  return true
end
