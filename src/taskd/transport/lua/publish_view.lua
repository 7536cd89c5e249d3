-- Sets the leader's view unless there is one of a later epoch. KEYS: the view. ARGV: JSON, epoch, milliseconds to live.
-- The present value counts only if taskd may have written it: short JSON that expires no later than this one would.
local function epoch_of(standing, left)
  if type(standing) ~= 'string' or #standing > 256 or left <= 0 or left > tonumber(ARGV[3]) then return nil end
  local readable, view = pcall(cjson.decode, standing)
  local epoch = readable and type(view) == 'table' and view['epoch']
  if type(epoch) == 'number' and epoch >= 0 and epoch < 2 ^ 63 then return epoch end
  return nil
end
local epoch = epoch_of(redis.pcall('GET', KEYS[1]), redis.call('PTTL', KEYS[1]))
if epoch and epoch > tonumber(ARGV[2]) then return {{}, spoilt} end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[3])
return {{}, spoilt}
