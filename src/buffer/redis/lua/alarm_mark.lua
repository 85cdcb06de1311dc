#!lua
-- Changes what is raised, and puts the events of it into the outbox.
--
-- KEYS  watch, raised, outbox
-- ARGV  watcher, most devices raised, most events, then by fours: raise, clear or forget; the key; the member; the event
-- Gives {'marked', events dropped, lowest number in the outbox or -1, outcome, …}: 0 it stood so already, 1 done, 2 too many
--       are raised; refusals: unwatched
--
-- Promises: a change and its event are there together or not at all, and a change that was made is not made again: what is
-- raised is not raised under another event, and only the very silence that was raised is cleared.
local watch, raised, outbox = KEYS[1], KEYS[2], KEYS[3]
local refused = check_watch(watch, ARGV[1])
if refused then return refused end
local most_raised, most_events = tonumber(ARGV[2]), tonumber(ARGV[3])
local standing, events = redis.call('ZCARD', raised), redis.call('ZCARD', outbox)
number(watch, 'number')
local answer = { 'marked', 0, -1 }
for at = 4, #ARGV, 4 do
  local change, key, member, event = ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3]
  local outcome = 0
  if change == 'raise' then
    -- Behind a key stands a line feed, which is the least of what can stand there.
    local known = redis.call('ZRANGEBYLEX', raised, '[' .. key .. '\n', '(' .. key .. '\11', 'LIMIT', 0, 1)[1]
    if not known and standing >= most_raised then
      outcome = 2
    elseif not known then
      redis.call('ZADD', raised, 0, member)
      standing, outcome = standing + 1, 1
    end
  elseif redis.call('ZREM', raised, member) == 1 then
    standing, outcome = standing - 1, 1
  end
  if outcome == 1 and change ~= 'forget' then
    redis.call('ZADD', outbox, redis.call('HINCRBY', watch, 'number', 1), event)
    events = events + 1
  end
  answer[#answer + 1] = outcome
end
local over = events - most_events
if over > 0 then
  local last = redis.call('ZRANGE', outbox, over - 1, over - 1, 'WITHSCORES')[2]
  redis.call('ZREMRANGEBYSCORE', outbox, '-inf', last)
  answer[2] = over
end
answer[3] = tonumber(redis.call('ZRANGE', outbox, 0, 0, 'WITHSCORES')[2] or -1)
return answer
