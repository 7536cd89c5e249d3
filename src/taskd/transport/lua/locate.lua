-- Finds one entry. KEYS: streams in the order of reading, the entry's own last. ARGV: group, value, the most entries to search.
-- Returns {'held', consumer, idle milliseconds}, {'waiting', the number of entries before it}, or {'gone'}.
local ahead = 0
for i = 1, #KEYS - 1 do
  local _, pending = group_of(KEYS[i], ARGV[1])
  ahead = ahead + (try('XLEN', KEYS[i]) or pending) - pending
end
local key = KEYS[#KEYS]
local last = group_of(key, ARGV[1])
for _, entry in ipairs(try('XRANGE', key, '-', '+', 'COUNT', ARGV[3]) or {}) do
  local undelivered = last == nil or after(entry[1], last)
  if value_of(entry) == ARGV[2] then
    if undelivered then return {{'waiting', ahead}, spoilt} end
    local held = redis.call('XPENDING', key, ARGV[1], entry[1], entry[1], 1)
    if held[1] then return {{'held', held[1][2], held[1][3]}, spoilt} end
    return {{'gone'}, spoilt}
  end
  if undelivered then ahead = ahead + 1 end
end
return {{'gone'}, spoilt}
