-- Adds entries. KEYS: streams. ARGV: (index into KEYS, value) pairs, in the order of dispatch.
for i = 1, #ARGV, 2 do
  try('XADD', KEYS[tonumber(ARGV[i])], '*', 'd', ARGV[i + 1])
end
return {{}, spoilt}
