#!lua flags=allow-oom
-- Writes a dataset's id into a partition that has none.
--
-- KEYS  state
-- ARGV  dataset, partitions
-- Gives {'done'}; refusals: foreign, moving, corrupt
--
-- Promises: idempotent; an id that stands is never written over, and what a drain has begun is left to it.
local state = KEYS[1]
local found = redis.call('HMGET', state, 'dataset', 'partitions', 'drain')
if found[1] and found[1] ~= ARGV[1] then return { 'foreign', found[1] } end
if not found[1] and found[3] then return { 'moving' } end
if found[1] and found[2] ~= ARGV[2] then
  return { 'corrupt', 'registered with ' .. tostring(found[2]) .. ' partitions, not ' .. ARGV[2] }
end
redis.call('HSET', state, 'dataset', ARGV[1], 'partitions', ARGV[2])
return { 'done' }
