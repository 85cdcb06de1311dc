#!lua flags=allow-oom,no-writes
-- Lists the batchers that are not forgotten yet.
--
-- KEYS  batchers
-- Gives {'batchers', batcher, ms since its last sign of life, …}
local refused = check_master()
if refused then return refused end
local now = now_ms()
local list = redis.call('ZRANGE', KEYS[1], 0, -1, 'WITHSCORES')
local answer = { 'batchers' }
for at = 1, #list, 2 do
  answer[#answer + 1] = list[at]
  answer[#answer + 1] = math.max(now - tonumber(list[at + 1]), 0)
end
return answer
