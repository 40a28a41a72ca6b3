-- expect: ok
function aso:onGet() log(string.rep("\n", 100000)) log("0x7f0011223344", "\27[2J") return 1 end
