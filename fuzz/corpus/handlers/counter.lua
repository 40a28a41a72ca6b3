-- Counts how often it is read. Every replica counts the reads that it served itself.
aso.getCount = 0

function aso:onGet(caller)
  self.getCount = self.getCount + 1
  return { self.value, self.getCount }
end
