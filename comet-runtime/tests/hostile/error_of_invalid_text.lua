-- expect: handler_error or handler_memory
-- What is raised, too.
function aso:onGet() error(string.rep("\xff", 131072)) end
