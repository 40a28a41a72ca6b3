-- expect: handler_error
function aso:onGet() error("\n2026-01-01 forged line\r\27[31m\0\u{2028}\u{202e}\xff\xfe") end
