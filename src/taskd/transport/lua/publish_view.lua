-- Sets the leader's view unless a later epoch's stands there. KEYS: the view. ARGV: JSON, epoch, milliseconds to live.
local standing = redis.call('GET', KEYS[1])
if standing and tonumber(cjson.decode(standing)['epoch']) > tonumber(ARGV[2]) then return {} end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[3])
return {}
