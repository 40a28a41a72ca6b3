-- expect: handler_steps
function aso:onGet() return string.find(string.rep("a", 10000), "(a*)%1%1b") end
