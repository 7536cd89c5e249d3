-- Announces entries again for other consumers. ARGV: group, then (index into KEYS, entry, value) triples.
for i = 2, #ARGV, 3 do
  local key = KEYS[tonumber(ARGV[i])]
  if redis.call('XDEL', key, ARGV[i + 1]) == 1 then
    redis.call('XADD', key, '*', 'd', ARGV[i + 2])
  end
  redis.call('XACK', key, ARGV[1], ARGV[i + 1])
end
