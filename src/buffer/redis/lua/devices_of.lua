#!lua flags=allow-oom,no-writes
-- Goes through some of the devices of a partition, and gives those whose names match.
--
-- KEYS  state, devices
-- ARGV  dataset, where to go on ('0' to begin), pattern of names, ms before which whoever was last seen then is forgotten,
--       about how many to go through
-- Gives {'devices', where to go on or '0' at the end, {name, ms it was last seen, …}}; refusals: unregistered, foreign
--
-- Promises: a device that is remembered from the first call to the last is given once or more often.
local refused = check_master() or check_dataset(KEYS[1], ARGV[1])
if refused then return refused end
local found = redis.call('ZSCAN', KEYS[2], ARGV[2], 'MATCH', ARGV[3], 'COUNT', ARGV[5])
local since, devices = tonumber(ARGV[4]), {}
for at = 1, #found[2], 2 do
  if tonumber(found[2][at + 1]) >= since then
    devices[#devices + 1] = found[2][at]
    devices[#devices + 1] = found[2][at + 1]
  end
end
return { 'devices', found[1], devices }
