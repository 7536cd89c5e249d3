-- Adds entries again, for other consumers. ARGV: group, then (index into KEYS, entry, value) triples.
for i = 2, #ARGV, 3 do
  local key = KEYS[tonumber(ARGV[i])]
  if try('XDEL', key, ARGV[i + 1]) == 1 then
    try('XADD', key, '*', 'd', ARGV[i + 2])
  end
  try('XACK', key, ARGV[1], ARGV[i + 1])
end
return {{}, spoilt}
