#!lua flags=allow-oom
-- Gives the watch back, if it is the watcher's.
--
-- KEYS  watch
-- ARGV  watcher
-- Gives {'done'}
--
-- Promises: when it was last gone on with stays known.
if not check_watch(KEYS[1], ARGV[1]) then redis.call('HDEL', KEYS[1], 'owner', 'until_ms') end
return { 'done' }
