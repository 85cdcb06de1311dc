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
local now = now_ms()
redis.call('HSET', state, 'lease_from_ms', now, 'lease_until_ms', now + tonumber(ARGV[4]))
return { 'done' }
