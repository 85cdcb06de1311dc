#!lua flags=allow-oom
-- Takes the lease of a partition when it is free, expired or the batcher's own.
--
-- KEYS  state
-- ARGV  dataset, batcher, time to live in ms
-- Gives {'taken', epoch} or {'held', batcher, ms until it expires}; refusals: unregistered, foreign
--
-- Promises: the epoch rises with each taking and never falls, so every older lease is refused from now on.
local state = KEYS[1]
local refused = check_dataset(state, ARGV[1])
if refused then return refused end
local now = now_ms()
local owner, expires = redis.call('HGET', state, 'lease_owner'), number(state, 'lease_until_ms')
if owner and owner ~= ARGV[2] and expires > now then return { 'held', owner, expires - now } end
local epoch = redis.call('HINCRBY', state, 'lease_epoch', 1)
redis.call('HSET', state, 'lease_owner', ARGV[2], 'lease_until_ms', now + tonumber(ARGV[3]))
return { 'taken', epoch }
