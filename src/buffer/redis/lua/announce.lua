#!lua flags=allow-oom
-- Says that a batcher is alive, and forgets those that have been silent for ten times as long as makes them dead.
--
-- KEYS  batchers
-- ARGV  batcher, time to live in ms
-- Gives {'alive', batcher, …}: those heard of within the time to live, always with this one
--
-- Promises: one clock, Redis's, judges all; who was heard of ahead of it (it was set back) was heard of now, so that the
-- living stay and the dead are forgotten in time. The list belongs to no dataset: it says who is there, not what is whose.
local batchers, now, ttl = KEYS[1], now_ms(), tonumber(ARGV[2])
redis.call('ZADD', batchers, now, ARGV[1])
for _, ahead in ipairs(redis.call('ZRANGEBYSCORE', batchers, '(' .. string.format('%.0f', now), '+inf')) do
  redis.call('ZADD', batchers, now, ahead)
end
redis.call('ZREMRANGEBYSCORE', batchers, '-inf', '(' .. string.format('%.0f', now - 10 * ttl))
local alive = redis.call('ZRANGEBYSCORE', batchers, string.format('%.0f', now - ttl), '+inf')
table.insert(alive, 1, 'alive')
return alive
