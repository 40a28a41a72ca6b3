-- The libraries that a handler can see, with every function whose work grows with what it is given bounded or
-- charged: a library call has no interrupt inside.
--
-- Arguments are checked as the function itself will read them: where it takes a string for a number or a number
-- for a string, so does the check. A function that calls back is given a function of Lua's, since a call of one
-- of C's counts no step.

local host, text_of = ...

local error, select, type, getmetatable, rawget = error, select, type, getmetatable, rawget
local tostring, tonumber, rawlen = tostring, tonumber, rawlen
local unpack, freeze = table.unpack, table.freeze
local raw_find, raw_format = string.find, string.format

local SUBJECT_MAX, PATTERN_MAX, WORK_MAX = host.subject_max, host.pattern_max, host.work_max
-- Longest string that a function may make.
local STRING_MAX = host.string_max
-- All strings that one call is given.
local STRINGS_MAX = 4 * STRING_MAX
-- Work that is not worth a charge.
local CHEAP = 1024
-- Places of one table.move.
local MOVED_MAX = 65536
-- Longest subject of a pattern with %b.
local BALANCED_MAX = 8192
-- Longest replacement that gsub has to read anew at every match.
local REPLACEMENT_MAX = 4096
-- Longest format of pack, packsize and unpack.
local PACKING_MAX = 4096
-- Arguments of format and pack.
local ARGUMENTS_MAX = 255
-- Longest string that is read as a number where many are taken.
local NUMERAL_MAX = 256
-- Longest text that tonumber reads.
local TONUMBER_MAX = 1024

local function charge(work)
  if work > CHEAP then host.charge(work) end
end

-- What a function of strings takes for one: numbers, too.
local function string_of(x)
  if type(x) == "number" then return tostring(x) end
  return x
end

-- Work that grows with the length of the first argument.
local function charged(f)
  return function(x, ...)
    local kind = type(x)
    if kind == "string" or kind == "table" then charge(rawlen(x)) end
    return f(x, ...)
  end
end

-- A function of any number of numbers: none of them may be a long string.
local function of_numbers(name, f)
  return function(...)
    local count = select("#", ...)
    local args = if count > 2 then { ... } else nil
    for i = 1, count do
      local x = if args then args[i] else (select(i, ...))
      if type(x) == "string" and #x > NUMERAL_MAX then
        error(raw_format("%s: a string of %d bytes is no number", name, #x), 2)
      end
    end
    return f(...)
  end
end

local plain = { string = true, number = true, boolean = true, ["nil"] = true }

-- A function that puts its arguments together by a form: few of them, and each string costs its length.
local function formed(name, f, form_max, text_of)
  return function(form, ...)
    local count, bytes = select("#", ...), 0
    if count > ARGUMENTS_MAX then
      error(raw_format("%s: %d arguments are given and the limit is %d", name, count, ARGUMENTS_MAX), 2)
    end
    if type(form) == "string" then
      bytes = #form
      if bytes > form_max then
        error(raw_format("%s: the format has %d bytes and the limit is %d", name, bytes, form_max), 2)
      end
    end
    local args = { ... }
    for i = 1, count do
      local x = args[i]
      if text_of and not plain[type(x)] then
        x = text_of(x)
        args[i] = x
      end
      if type(x) == "string" then bytes += #x end
    end
    if bytes > STRINGS_MAX then
      error(raw_format("%s: the strings have %d bytes and the limit is %d", name, bytes, STRINGS_MAX), 2)
    end
    charge(bytes)
    return f(form, unpack(args, 1, count))
  end
end

-- Patterns --------------------------------------------------------------------------------------------

-- How many classes a pattern has: each is worth eight bytes of a literal set.
local function classes(pattern)
  local count, at = 0, raw_find(pattern, "%", 1, true)
  while at do
    count += 1
    at = raw_find(pattern, "%", at + 2, true)
  end
  return count
end

-- Fails where a match would take too long, and charges what it takes.
local function weigh_match(name, subject, pattern)
  if type(subject) ~= "string" or type(pattern) ~= "string" then return end
  local s, p = #subject, #pattern
  if s > SUBJECT_MAX then
    error(raw_format("string.%s: the subject has %d bytes and the limit is %d", name, s, SUBJECT_MAX), 3)
  elseif p > PATTERN_MAX then
    error(raw_format("string.%s: the pattern has %d bytes and the limit is %d", name, p, PATTERN_MAX), 3)
  elseif s * p <= CHEAP then
    return
  end
  local work = s * (p + 8 * classes(pattern))
  if work > WORK_MAX then
    error(raw_format("string.%s: subject times pattern is %d and the limit is %d", name, work, WORK_MAX), 3)
  elseif s > BALANCED_MAX and raw_find(pattern, "%b", 1, true) then
    -- From each place where a pair begins, the matcher walks on to its end, perhaps that of the subject.
    error(raw_format("string.%s: the subject of %%b has %d bytes and the limit is %d", name, s, BALANCED_MAX), 3)
  end
  host.charge(work)
end

local function bounded_match(name)
  local f = string[name]
  return function(subject, pattern, ...)
    subject, pattern = string_of(subject), string_of(pattern)
    weigh_match(name, subject, pattern)
    return f(subject, pattern, ...)
  end
end

local raw_gsub = string.gsub

local function gsub(subject, pattern, replacement, ...)
  subject, pattern = string_of(subject), string_of(pattern)
  weigh_match("gsub", subject, pattern)
  if type(replacement) == "string" and #replacement > CHEAP then
    if #replacement > REPLACEMENT_MAX and raw_find(replacement, "%", 1, true) then
      error(raw_format("string.gsub: the replacement has %d bytes and with a %% in it the limit is %d", #replacement, REPLACEMENT_MAX), 2)
    elseif #replacement > SUBJECT_MAX then
      error(raw_format("string.gsub: the replacement has %d bytes and the limit is %d", #replacement, SUBJECT_MAX), 2)
    end
    host.charge(#replacement)
  end
  return raw_gsub(subject, pattern, replacement, ...)
end

local raw_split = string.split

local function split(subject, separator)
  subject, separator = string_of(subject), string_of(separator)
  if separator == nil then separator = "," end
  weigh_match("split", subject, separator)
  return raw_split(subject, separator)
end

local raw_rep = string.rep

local function rep(s, n)
  s = string_of(s)
  if type(n) == "string" and #n <= NUMERAL_MAX then n = tonumber(n) end
  if type(s) ~= "string" or type(n) ~= "number" then return raw_rep(s, (type(n) == "number") and n or nil) end
  -- What is not a number is less than nothing, and no comparison finds it.
  local bytes = (n == n) and #s * n or 0
  if bytes > STRING_MAX then
    error(raw_format("string.rep: the result would have %.0f bytes and the limit is %d", bytes, STRING_MAX), 2)
  end
  charge(bytes)
  return raw_rep(s, (bytes > 0) and n or 0)
end

-- Tables ----------------------------------------------------------------------------------------------

local raw_move = table.move

-- A place in a table as the library reads it, which cuts numbers to 32 bits.
local function place(x)
  if type(x) == "string" and #x <= NUMERAL_MAX then x = tonumber(x) end
  if type(x) == "number" and x > -2147483648 and x < 2147483647 then return x end
  error("table.move: places are whole numbers of 32 bits", 3)
end

-- Its work is not in the table's length but in the range, whether or not there is anything in it.
local function move(t, first, last, at, into)
  first, last, at = place(first), place(last), place(at)
  local count = last - first + 1
  if count > MOVED_MAX then
    error(raw_format("table.move: the range has %.0f places and the limit is %d", count, MOVED_MAX), 2)
  elseif count > 0 then
    host.charge(count * 16)
  end
  return raw_move(t, first, last, at, into)
end

local raw_sort = table.sort

local function sort(t, before)
  if before == nil then return raw_sort(t, function(a, b) return a < b end) end
  if type(before) ~= "function" then error("table.sort: the comparator must be a function", 2) end
  return raw_sort(t, function(a, b) return (before(a, b)) end)
end

local raw_table_find = charged(table.find)

-- Tables are compared here, since they may come with a comparison of their own.
local function table_find(t, wanted, from)
  if type(wanted) ~= "table" or type(t) ~= "table" then return raw_table_find(t, wanted, from) end
  local i = tonumber(from or 1)
  if i == nil or i < 1 then error("table.find: the index is out of range", 2) end
  local found = rawget(t, i)
  while found ~= nil do
    if found == wanted then return i end
    i += 1
    found = rawget(t, i)
  end
  return nil
end

-- Numbers ---------------------------------------------------------------------------------------------

local random, randomseed = math.random, math.randomseed

local function seeded_random(...)
  local seed = host.fresh_seed()
  if seed then randomseed(seed) end
  return random(...)
end

local function safe_tonumber(x, ...)
  if type(x) == "string" and #x > TONUMBER_MAX then return nil end
  return tonumber(x, ...)
end

-- The lists -------------------------------------------------------------------------------------------

local function pick(library, names)
  local out = {}
  for name in string.gmatch(names, "%w+") do out[name] = library[name] end
  return out
end

local strings = pick(string, "byte char find format gmatch gsub len lower match pack packsize rep reverse split sub unpack upper")
for _, name in { "find", "gmatch", "match" } do strings[name] = bounded_match(name) end
for _, name in { "lower", "upper", "reverse" } do strings[name] = charged(string[name]) end
strings.char = of_numbers("string.char", string.char)
strings.format = formed("string.format", raw_format, STRING_MAX, text_of)
for _, name in { "pack", "packsize", "unpack" } do
  strings[name] = formed("string." .. name, string[name], PACKING_MAX)
end
strings.gsub, strings.split, strings.rep = gsub, split, rep

local tables = pick(table, "clear clone concat create find freeze insert isfrozen maxn move pack remove sort unpack")
for _, name in { "clone", "concat", "insert", "maxn", "remove" } do tables[name] = charged(table[name]) end
tables.find, tables.move, tables.sort = table_find, move, sort

local numbers = pick(math, "abs acos asin atan2 atan ceil clamp cos cosh deg exp floor fmod frexp ldexp lerp log10 log map max min modf noise pow rad random round sign sin sinh sqrt tan tanh")
for _, name in { "max", "min" } do numbers[name] = of_numbers("math." .. name, math[name]) end
numbers.pi, numbers.huge = math.pi, math.huge
numbers.random = seeded_random

local texts = pick(utf8, "char codepoint codes len offset")
for _, name in { "len", "offset", "codes" } do texts[name] = charged(utf8[name]) end
texts.char = of_numbers("utf8.char", utf8.char)
texts.charpattern = utf8.charpattern

local bits = pick(bit32, "arshift band bnot bor btest bxor byteswap countlz countrz extract lrotate lshift replace rrotate rshift")
for _, name in { "band", "bor", "btest", "bxor" } do bits[name] = of_numbers("bit32." .. name, bit32[name]) end

-- Methods of strings go through the string metatable, so that table gets the bounded functions, too.
table.clear(string)
for name, f in strings do string[name] = f end

return {
  string = string, table = freeze(tables), math = freeze(numbers), utf8 = freeze(texts), bit32 = freeze(bits),
  tonumber = safe_tonumber,
}
