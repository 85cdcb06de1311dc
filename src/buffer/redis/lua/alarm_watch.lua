#!lua flags=allow-oom
-- Takes the watch over silence when nobody has it, or goes on with it.
--
-- KEYS  watch, raised, outbox
-- ARGV  watcher, time to live in ms, when its last look came to its end in ms or ''
-- Gives {'taken', now in ms, 1 if it was not held until now or 0, when the last look came to its end in ms or -1, devices
--        raised, events to be delivered} or {'held', now in ms, ms until it runs out}
--
-- Promises: one watcher at a time, by Redis's clock. A watch that begins ahead of it (it was set back) lasts from now on as
-- long as it was given for, as a lease does.
local watch, now, ttl, looked = KEYS[1], now_ms(), tonumber(ARGV[2]), ARGV[3]
local found = redis.call('HMGET', watch, 'owner', 'from_ms', 'until_ms', 'looked_ms')
local owner, begins, expires = found[1], count(found, 2, 'from_ms'), count(found, 3, 'until_ms')
if looked == '' then looked = found[4] or -1 end
looked = math.min(tonumber(looked), now)
if owner and begins > now then
  begins, expires = now, now + expires - begins
  redis.call('HSET', watch, 'from_ms', begins, 'until_ms', expires)
end
local held = owner and expires > now
if held and owner ~= ARGV[1] then return { 'held', now, expires - now } end
redis.call('HSET', watch, 'owner', ARGV[1], 'from_ms', now, 'until_ms', now + ttl)
if looked >= 0 then redis.call('HSET', watch, 'looked_ms', looked) end
return { 'taken', now, held and 0 or 1, looked, redis.call('ZCARD', KEYS[2]), redis.call('ZCARD', KEYS[3]) }
