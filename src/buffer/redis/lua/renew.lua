#!lua flags=allow-oom
-- Extends a lease.
--
-- KEYS  state
-- ARGV  dataset, batcher, epoch, time to live in ms
-- Gives {'done'}; refusals: unregistered, foreign, fenced
--
-- Promises: an expired lease that nobody took meanwhile is its holder's still: only the epoch decides.
local state = KEYS[1]
local refused = check_dataset(state, ARGV[1]) or check_lease(state, ARGV[2], ARGV[3])
if refused then return refused end
redis.call('HSET', state, 'lease_until_ms', now_ms() + tonumber(ARGV[4]))
return { 'done' }
