-- Deletes entries whose claim is decided. ARGV: group, then for each of KEYS the number of its entries, and the entries.
local most = 1000 -- Lua limits the arguments of one command
local at = 2
for _, key in ipairs(KEYS) do
  local last = at + tonumber(ARGV[at])
  for first = at + 1, last, most do
    local upto = math.min(last, first + most - 1)
    try('XACK', key, ARGV[1], unpack(ARGV, first, upto))
    try('XDEL', key, unpack(ARGV, first, upto))
  end
  at = last + 1
end
return {{}, spoilt}
