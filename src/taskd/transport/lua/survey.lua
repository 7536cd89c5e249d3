-- Finds the entries that some worker holds or will be given; deletes those that nobody ever will (their consumer was deleted
-- while it held them). KEYS: streams. ARGV: group. Answers the values.
local alive = {}
for _, key in ipairs(KEYS) do
  local last = group_of(key, ARGV[1])
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
return {alive, spoilt}
