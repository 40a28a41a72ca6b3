-- expect: bad_code
while true do end
