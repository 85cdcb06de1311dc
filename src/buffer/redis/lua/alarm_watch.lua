#!lua flags=allow-oom
-- Takes the watch over silence when nobody has it, or goes on with it.
--
-- KEYS  watch, raised, outbox
-- ARGV  watcher, time to live in ms
-- Gives {'taken', now in ms, 1 if it was not held until now or 0, when anybody took it or went on with it before in ms or -1,
--        devices raised, events to be delivered} or
--       {'held', ms until it runs out}
--
-- Promises: one watcher at a time, by Redis's clock. A watch that begins ahead of it (it was set back) lasts from now on as
-- long as it was given for, as a lease does.
local watch, now, ttl = KEYS[1], now_ms(), tonumber(ARGV[2])
local found = redis.call('HMGET', watch, 'owner', 'from_ms', 'until_ms')
local last = math.min(tonumber(found[2] or -1), now)
local owner, begins, expires = found[1], count(found, 2, 'from_ms'), count(found, 3, 'until_ms')
if owner and begins > now then
  begins, expires = now, now + expires - begins
  redis.call('HSET', watch, 'from_ms', begins, 'until_ms', expires)
end
local held = owner and expires > now
if held and owner ~= ARGV[1] then return { 'held', expires - now } end
redis.call('HSET', watch, 'owner', ARGV[1], 'from_ms', now, 'until_ms', now + ttl)
return { 'taken', now, held and 0 or 1, last, redis.call('ZCARD', KEYS[2]), redis.call('ZCARD', KEYS[3]) }
