#!lua flags=allow-oom,no-writes
-- Lists the events that wait to be delivered, oldest first.
--
-- KEYS  outbox
-- ARGV  number after which to begin, most events
-- Gives {'outbox', number, event, …}
local refused = check_master()
if refused then return refused end
local found = redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. ARGV[1], '+inf', 'WITHSCORES', 'LIMIT', 0, ARGV[2])
local answer = { 'outbox' }
for at = 1, #found, 2 do
  answer[#answer + 1] = tonumber(found[at + 1])
  answer[#answer + 1] = found[at]
end
return answer
