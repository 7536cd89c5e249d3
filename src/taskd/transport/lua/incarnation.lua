-- Returns {the id of Redis's memory, 0}; sets it to ARGV[1] if there is none. A malformed value is replaced: {id, 1}.
-- The SET comes first even where there is an id: a server that is out of memory or a replica refuses it, and so counts as away.
-- Otherwise jobs would be re-offered again and again to a server that takes no entry.
if redis.call('SET', KEYS[1], ARGV[1], 'NX') then
  return {{ARGV[1], 0}, spoilt}
end
local standing = redis.pcall('GET', KEYS[1])
if type(standing) == 'string' and string.match(standing, '^%x+%-%x+%-%x+%-%x+%-%x+$') and #standing == 36 then
  return {{standing, 0}, spoilt}
end
redis.call('SET', KEYS[1], ARGV[1])
return {{ARGV[1], 1}, spoilt}
