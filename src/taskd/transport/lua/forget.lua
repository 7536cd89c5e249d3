-- Deletes consumers that hold nothing and were silent for long: workers that were killed and never came back under their names.
-- The consumer of a worker that still lives is created again by its next read. KEYS: streams. ARGV: group, milliseconds of silence.
for _, key in ipairs(KEYS) do
  local consumers = redis.pcall('XINFO', 'CONSUMERS', key, ARGV[1])
  if not consumers.err then
    for _, consumer in ipairs(consumers) do
      local fields = {}
      for i = 1, #consumer, 2 do fields[consumer[i]] = consumer[i + 1] end
      if fields['pending'] == 0 and fields['idle'] > tonumber(ARGV[2]) then
        redis.call('XGROUP', 'DELCONSUMER', key, ARGV[1], fields['name'])
      end
    end
  end
end
return {{}, spoilt}
