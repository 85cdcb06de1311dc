#!lua flags=allow-oom
-- Takes the lease of a partition when it is free, expired or the batcher's own.
--
-- KEYS  state
-- ARGV  dataset, batcher, time to live in ms
-- Gives {'taken', epoch} or {'held', batcher, ms until it expires}; refusals: unregistered, foreign
--
-- Promises: the epoch rises with each taking and never falls, so every older lease is refused from now on. A lease that
-- begins ahead of the clock (it was set back, or a replica with another one took over) lasts from now on as long as it was
-- given for: else a dead batcher would keep its partition for as long as the clock went back.
local state = KEYS[1]
local refused = check_dataset(state, ARGV[1])
if refused then return refused end
local now = now_ms()
local owner = redis.call('HGET', state, 'lease_owner')
local begins, expires = number(state, 'lease_from_ms'), number(state, 'lease_until_ms')
if owner and begins > now then
  begins, expires = now, now + expires - begins
  redis.call('HSET', state, 'lease_from_ms', begins, 'lease_until_ms', expires)
end
if owner and owner ~= ARGV[2] and expires > now then return { 'held', owner, expires - now } end
local epoch = redis.call('HINCRBY', state, 'lease_epoch', 1)
redis.call('HSET', state, 'lease_owner', ARGV[2], 'lease_from_ms', now, 'lease_until_ms', now + tonumber(ARGV[3]))
return { 'taken', epoch }
