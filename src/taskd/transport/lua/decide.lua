-- Forgets entries whose claim is decided. ARGV: group, then (index into KEYS, entry) pairs.
for i = 2, #ARGV, 2 do
  local key = KEYS[tonumber(ARGV[i])]
  redis.call('XACK', key, ARGV[1], ARGV[i + 1])
  redis.call('XDEL', key, ARGV[i + 1])
end
