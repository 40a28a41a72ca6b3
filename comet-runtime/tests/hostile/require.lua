-- expect: true
function aso:onGet()
  return require == nil and package == nil and io == nil and os == nil and pcall(function() return require("./x") end) == false
end
