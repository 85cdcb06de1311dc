#!lua flags=allow-oom
-- Takes events out of the outbox.
--
-- KEYS  watch, outbox
-- ARGV  watcher, number, …
-- Gives {'done'}; refusals: unwatched
local refused = check_watch(KEYS[1], ARGV[1])
if refused then return refused end
for at = 2, #ARGV do
  redis.call('ZREMRANGEBYSCORE', KEYS[2], ARGV[at], ARGV[at])
end
return { 'done' }
