-- Takes over entries that were delivered long ago and are undecided. ARGV: group, consumer, count, idle milliseconds.
local left = tonumber(ARGV[3])
local found = {}
for _, key in ipairs(KEYS) do
  if left <= 0 then break end
  local reply = try('XAUTOCLAIM', key, ARGV[1], ARGV[2], ARGV[4], '0-0', 'COUNT', left)
  for _, entry in ipairs(reply and reply[2] or {}) do
    if entry and entry[2] then
      found[#found + 1] = {key, entry[1], value_of(entry)}
      left = left - 1
    end
  end
end
return {found, spoilt}
