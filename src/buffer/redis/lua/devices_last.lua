#!lua flags=allow-oom,no-writes
-- Tells when some devices of a partition were last seen.
--
-- KEYS  state, devices
-- ARGV  dataset, name, …
-- Gives {'devices', ms it was last seen or -1, …}; refusals: unregistered, foreign
local refused = check_master() or check_dataset(KEYS[1], ARGV[1])
if refused then return refused end
local answer = { 'devices' }
for at = 2, #ARGV do
  answer[at] = tonumber(redis.call('ZSCORE', KEYS[2], ARGV[at]) or -1)
end
return answer
