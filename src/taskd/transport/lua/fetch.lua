-- Reads new entries, earlier KEYS first, at most so many in all. ARGV: group, consumer, count. Answers {stream, entry, value}...
local left = tonumber(ARGV[3])
local found = {}
for _, key in ipairs(KEYS) do
  if left <= 0 then break end
  local reply = redis.call('XREADGROUP', 'GROUP', ARGV[1], ARGV[2], 'COUNT', left, 'STREAMS', key, '>')
  if reply and reply[1] then
    for _, entry in ipairs(reply[1][2]) do
      found[#found + 1] = {key, entry[1], entry[2] and entry[2][2] or ''}
      left = left - 1
    end
  end
end
return found
