#!lua flags=allow-oom
-- Gives the watch back, if it is the watcher's.
--
-- KEYS  watch
-- ARGV  watcher
-- Gives {'done'}
--
-- Promises: when the last look was stays known.
if not check_watch(KEYS[1], ARGV[1]) then redis.call('HDEL', KEYS[1], 'owner', 'from_ms', 'until_ms') end
return { 'done' }
