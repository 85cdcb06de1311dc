#!lua
-- Marks a new partition as being filled by a drain.
--
-- KEYS  state, pending, processing, dead, devices
-- ARGV  mark of the drain
-- Gives {'begun'}, or {'finished'} when this drain has done all of it; refusals: taken
--
-- Promises: idempotent; only a partition of which there is nothing at all is begun.
local found = redis.call('HMGET', KEYS[1], 'dataset', 'drain')
if found[2] == ARGV[1] then return { found[1] and 'finished' or 'begun' } end
if redis.call('EXISTS', unpack(KEYS)) > 0 then return { 'taken' } end
redis.call('HSET', KEYS[1], 'drain', ARGV[1])
return { 'begun' }
