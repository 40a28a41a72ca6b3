-- expect: bad_code
aso = 5
