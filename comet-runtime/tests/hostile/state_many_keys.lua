-- expect: handler_bad_state
function aso:onGet() for i = 1, 1700 do self["a_rather_long_name_for_a_field_" .. i] = i end end
