-- expect: true
function aso:onGet()
  return getfenv == nil and setfenv == nil and debug == nil and newproxy == nil and coroutine == nil
    and collectgarbage == nil and gcinfo == nil and _VERSION == nil and print == nil and _G == nil and buffer == nil
end
