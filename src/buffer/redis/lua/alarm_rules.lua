#!lua flags=allow-oom
-- Says which rules are in force.
--
-- KEYS  watch
-- ARGV  watcher, name of a rule, …
-- Gives {'rules', since when each is in force in ms, …}; refusals: unwatched
--
-- Promises: a rule that is left out once has not been in force without a break.
local watch, now = KEYS[1], now_ms()
local refused = check_watch(watch, ARGV[1])
if refused then return refused end
local answer, kept = { 'rules' }, {}
for at = 2, #ARGV do
  local field = 'rule:' .. ARGV[at]
  local since = redis.call('HGET', watch, field)
  if not since then
    since = whole(now)
    redis.call('HSET', watch, field, since)
  end
  kept[field] = true
  answer[at] = tonumber(since)
end
for _, field in ipairs(redis.call('HKEYS', watch)) do
  if string.sub(field, 1, 5) == 'rule:' and not kept[field] then redis.call('HDEL', watch, field) end
end
return answer
