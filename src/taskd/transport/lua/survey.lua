-- Finds the entries that some worker holds or will be given; deletes those that nobody ever will (their consumer was deleted
-- while it held them). KEYS: streams. ARGV: group. Answers the values.
local function parts(id)
  local ms, seq = string.match(id, '^(%d+)-(%d+)$')
  return tonumber(ms), tonumber(seq)
end
local function after(a, b)
  local am, as = parts(a)
  local bm, bs = parts(b)
  return am > bm or (am == bm and as > bs)
end
local alive = {}
for _, key in ipairs(KEYS) do
  local groups = redis.pcall('XINFO', 'GROUPS', key)
  if not groups.err then
    local last = nil
    for _, group in ipairs(groups) do
      local fields = {}
      for i = 1, #group, 2 do fields[group[i]] = group[i + 1] end
      if fields['name'] == ARGV[1] then last = fields['last-delivered-id'] end
    end
    local held = {}
    if last then
      for _, row in ipairs(redis.call('XPENDING', key, ARGV[1], '-', '+', 10000)) do held[row[1]] = true end
    end
    for _, entry in ipairs(redis.call('XRANGE', key, '-', '+')) do
      if last == nil or held[entry[1]] or after(entry[1], last) then
        alive[#alive + 1] = entry[2][2]
      else
        redis.call('XDEL', key, entry[1])
      end
    end
  end
end
return alive
