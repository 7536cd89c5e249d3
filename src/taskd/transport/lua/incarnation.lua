-- Answers {the id of Redis's memory, 0}; sets it to ARGV[1] if there is none. A value that is no such id is replaced: {id, 1}.
local standing = redis.pcall('GET', KEYS[1])
if type(standing) == 'string' and string.match(standing, '^%x+%-%x+%-%x+%-%x+%-%x+$') and #standing == 36 then
  return {{standing, 0}, spoilt}
end
local replaced = standing and 1 or 0
redis.call('SET', KEYS[1], ARGV[1])
return {{ARGV[1], replaced}, spoilt}
