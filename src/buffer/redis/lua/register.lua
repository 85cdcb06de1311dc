#!lua flags=allow-oom
-- Writes a dataset's id into a partition that has none.
--
-- KEYS  state
-- ARGV  dataset, partitions
-- Gives {'done'}; refusals: foreign, corrupt
--
-- Promises: idempotent; an id that stands is never written over.
local state = KEYS[1]
local found = redis.call('HMGET', state, 'dataset', 'partitions')
if found[1] and found[1] ~= ARGV[1] then return { 'foreign', found[1] } end
if found[1] and found[2] ~= ARGV[2] then
  return { 'corrupt', 'registered with ' .. tostring(found[2]) .. ' partitions, not ' .. ARGV[2] }
end
redis.call('HSET', state, 'dataset', ARGV[1], 'partitions', ARGV[2])
return { 'done' }
