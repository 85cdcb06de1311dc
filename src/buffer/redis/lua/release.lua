#!lua flags=allow-oom
-- Gives a lease back at once, and marks the claim that its holder was handed as left on purpose.
--
-- KEYS  state
-- ARGV  dataset, batcher, epoch
-- Gives {'done'}, also when the lease is another's by now; refusals: unregistered, foreign
--
-- Promises: a claim left so is no death. One that an earlier owner died with, and this one never asked for, stays one.
local state = KEYS[1]
local refused = check_dataset(state, ARGV[1])
if refused then return refused end
if check_lease(state, ARGV[2], ARGV[3]) then return { 'done' } end
if redis.call('HGET', state, 'claim_epoch') == ARGV[3] then
  redis.call('HSET', state, 'claim_left', 1)
  redis.call('HDEL', state, 'hand_frame')
end
redis.call('HDEL', state, 'lease_owner', 'lease_from_ms', 'lease_until_ms')
return { 'done' }
