-- Precedes every script. Other programs can write to Redis: a key may have another type, and an entry other fields. Such a key
-- costs its own queue, never the others. A script returns {result, spoilt}; `spoilt` are those of KEYS that cannot be used
-- until an operator deletes them.
local spoilt, known = {}, {}
local function spoil(key)
  if not known[key] then
    known[key] = true
    spoilt[#spoilt + 1] = key
  end
end
-- Runs a command on a key. Returns nil if the key has another type, or is a stream without free ids; such keys are noted.
local function checked(key, ...)
  if known[key] then return nil end
  local reply = redis.pcall(...)
  if type(reply) == 'table' and reply.err then
    if string.find(reply.err, 'WRONGTYPE', 1, true) or string.find(reply.err, 'exhausted the last possible ID', 1, true) then
      spoil(key)
      return nil
    end
    return redis.call(...) -- fails again, and ends the script with its own error
  end
  return reply
end
local function try(command, key, ...) return checked(key, command, key, ...) end
-- The value of an entry's field `d`; empty if it has none, or one that is too long to be taskd's.
local function value_of(entry)
  local fields = entry[2] or {}
  for i = 1, #fields - 1, 2 do
    if fields[i] == 'd' then return #fields[i + 1] <= 64 and fields[i + 1] or '' end
  end
  return ''
end
local function parts(id)
  local ms, seq = string.match(id, '^(%d+)-(%d+)$')
  return tonumber(ms), tonumber(seq)
end
local function after(a, b)
  local am, as = parts(a)
  local bm, bs = parts(b)
  return am > bm or (am == bm and as > bs)
end
-- The last entry that a consumer group was given, and the number it holds; nil and 0 without the key or the group.
local function group_of(key, name)
  local groups = redis.pcall('XINFO', 'GROUPS', key)
  if groups.err then
    if string.find(groups.err, 'WRONGTYPE', 1, true) then spoil(key) end
    return nil, 0
  end
  for _, group in ipairs(groups) do
    local fields = {}
    for i = 1, #group, 2 do fields[group[i]] = group[i + 1] end
    if fields['name'] == name then return fields['last-delivered-id'], fields['pending'] end
  end
  return nil, 0
end
