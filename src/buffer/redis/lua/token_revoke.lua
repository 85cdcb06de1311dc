#!lua flags=allow-oom
-- Forgets a token.
--
-- KEYS  tokens
-- ARGV  new version, id
-- Gives {'done'} or {'none'}
--
-- Promises: works on a Redis that is full. The version stays behind the last token: a list that was emptied by people is told
-- from one that was erased.
if redis.call('HDEL', KEYS[1], ARGV[2]) == 0 then return { 'none' } end
redis.call('HSET', KEYS[1], 'version', ARGV[1])
return { 'done' }
