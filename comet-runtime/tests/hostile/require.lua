-- expect: true
-- A file that is there, by every name that another Lua has for opening it.
function aso:onGet()
  for _, path in { "/etc/passwd", "./Cargo", "./Cargo.toml", "@self/Cargo", "@std/fs" } do
    for _, open in { "require", "dofile", "loadfile", "load" } do
      if pcall(function() return ({ require = require, dofile = dofile, loadfile = loadfile, load = load })[open](path) end) then return open .. " " .. path end
    end
  end
  return require == nil and package == nil and io == nil and os == nil and dofile == nil and loadfile == nil
end
