-- expect: true
-- A number of times that is given as a text is one, and nothing is not repeated for long.
function aso:onGet()
  return not pcall(string.rep, "x", "2000000000") and not pcall(string.rep, 12345, "1e9")
    and string.rep("", "2e9") == "" and string.rep("x", 0 / 0) == "" and string.rep("x", -math.huge) == ""
    and string.rep("ab", "2") == "abab"
end
