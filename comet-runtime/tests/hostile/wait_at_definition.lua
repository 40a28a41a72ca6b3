-- expect: bad_code
pcall(get, getASOKey())
get(getASOKey())
