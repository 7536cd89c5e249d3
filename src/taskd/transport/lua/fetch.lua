-- Reads new entries, earlier KEYS first, at most `count` in all. ARGV: group, consumer, count. Returns {stream, entry, value}...
local left = tonumber(ARGV[3])
local found = {}
for _, key in ipairs(KEYS) do
  if left <= 0 then break end
  local reply = checked(key, 'XREADGROUP', 'GROUP', ARGV[1], ARGV[2], 'COUNT', left, 'STREAMS', key, '>')
  if reply and reply[1] then
    for _, entry in ipairs(reply[1][2]) do
      found[#found + 1] = {key, entry[1], value_of(entry)}
      left = left - 1
    end
  end
end
return {found, spoilt}
