-- Finds one entry. KEYS: streams, those that are read first before, the entry's own last. ARGV: group, value, the most entries to
-- look through. Answers {'held', consumer, idle milliseconds}, {'waiting', how many are given out before it}, or {'gone'}.
local function parts(id)
  local ms, seq = string.match(id, '^(%d+)-(%d+)$')
  return tonumber(ms), tonumber(seq)
end
local function after(a, b)
  local am, as = parts(a)
  local bm, bs = parts(b)
  return am > bm or (am == bm and as > bs)
end
local function group_of(key)
  local groups = redis.pcall('XINFO', 'GROUPS', key)
  if groups.err then return nil, 0 end
  for _, group in ipairs(groups) do
    local fields = {}
    for i = 1, #group, 2 do fields[group[i]] = group[i + 1] end
    if fields['name'] == ARGV[1] then return fields['last-delivered-id'], fields['pending'] end
  end
  return nil, 0
end
local ahead = 0
for i = 1, #KEYS - 1 do
  local _, pending = group_of(KEYS[i])
  ahead = ahead + redis.call('XLEN', KEYS[i]) - pending
end
local key = KEYS[#KEYS]
local last = group_of(key)
for _, entry in ipairs(redis.call('XRANGE', key, '-', '+', 'COUNT', ARGV[3])) do
  local undelivered = last == nil or after(entry[1], last)
  if entry[2][2] == ARGV[2] then
    if undelivered then return {'waiting', ahead} end
    local held = redis.call('XPENDING', key, ARGV[1], entry[1], entry[1], 1)
    if held[1] then return {'held', held[1][2], held[1][3]} end
    return {'gone'}
  end
  if undelivered then ahead = ahead + 1 end
end
return {'gone'}
