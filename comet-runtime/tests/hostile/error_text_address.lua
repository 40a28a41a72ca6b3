-- expect: handler_error
function aso:onGet() error("0x7f0011223344 and 0xdeadbeefcafe") end
