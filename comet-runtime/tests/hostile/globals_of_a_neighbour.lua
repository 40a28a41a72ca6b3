-- expect: true
-- The neighbour has set globals of these names and hidden a value behind them.
function aso:onGet()
  return neighbour_secret == nil and neighbour_table == nil and hits == nil
end
