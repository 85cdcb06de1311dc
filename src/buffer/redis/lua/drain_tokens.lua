#!lua
-- Adds tokens of the buffer that moves here, as they were kept before.
--
-- KEYS  tokens
-- ARGV  new version, then ids and records by turns (a page: some 100)
-- Gives {'done'}
--
-- Promises: idempotent. Tokens that were made here already stay.
redis.call('HSET', KEYS[1], 'version', unpack(ARGV))
return { 'done' }
