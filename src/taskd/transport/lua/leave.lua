-- Adds the entries that a consumer still holds again, and deletes the consumer. KEYS: streams. ARGV: group, consumer.
for _, key in ipairs(KEYS) do
  if redis.call('EXISTS', key) == 1 then
    local held = redis.pcall('XPENDING', key, ARGV[1], '-', '+', 10000, ARGV[2])
    if not held.err then
      for _, row in ipairs(held) do
        local entry = redis.call('XRANGE', key, row[1], row[1])[1]
        local value = entry and value_of(entry) or ''
        if value ~= '' then try('XADD', key, '*', 'd', value) end
        if entry then redis.call('XDEL', key, row[1]) end
        redis.call('XACK', key, ARGV[1], row[1])
      end
      redis.call('XGROUP', 'DELCONSUMER', key, ARGV[1], ARGV[2])
    end
  end
end
return {{}, spoilt}
