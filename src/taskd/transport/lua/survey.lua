-- Returns the values of the entries that a worker holds or will get, and deletes the others: their consumer was deleted while it
-- held them. A group whose last id lies beyond the end of its stream would get no entry again, so it is set to the end.
-- KEYS: streams. ARGV: group. Returns {values, streams whose group was set back}.
local alive, repaired = {}, {}
local function end_of(key)
  local info = redis.pcall('XINFO', 'STREAM', key)
  for i = 1, info.err and 0 or #info, 2 do
    if info[i] == 'last-generated-id' then return info[i + 1] end
  end
end
for _, key in ipairs(KEYS) do
  local last = group_of(key, ARGV[1])
  local newest = last and end_of(key)
  if newest and after(last, newest) then
    redis.call('XGROUP', 'SETID', key, ARGV[1], newest)
    repaired[#repaired + 1] = key
    last = newest
  end
  local held = {}
  if last then
    for _, row in ipairs(redis.call('XPENDING', key, ARGV[1], '-', '+', 10000)) do held[row[1]] = true end
  end
  for _, entry in ipairs(try('XRANGE', key, '-', '+') or {}) do
    if last == nil or held[entry[1]] or after(entry[1], last) then
      alive[#alive + 1] = value_of(entry)
    else
      redis.call('XDEL', key, entry[1])
    end
  end
end
return {{alive, repaired}, spoilt}
