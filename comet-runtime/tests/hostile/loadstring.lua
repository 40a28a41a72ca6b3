-- expect: true
function aso:onGet()
  return loadstring == nil and load == nil and dofile == nil and loadfile == nil and string.dump == nil
end
