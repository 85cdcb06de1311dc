#!lua flags=allow-oom,no-writes
-- Tells of the newest dead letters, newest first, without their frames.
--
-- KEYS  state, dead
-- ARGV  dataset, most letters
-- Gives {'letters', letter, …}, each cut off where its frame begins; refusals: unregistered, foreign
local state, dead = KEYS[1], KEYS[2]
local refused = check_master() or check_dataset(state, ARGV[1])
if refused then return refused end
local answer = { 'letters' }
-- All have one score, so they stand in the order of their ids. One at a time: a frame may be long.
for index = 1, tonumber(ARGV[2]) do
  local letter = redis.call('ZRANGE', dead, -index, -index)[1]
  if not letter then break end
  local reason, at = string.match(letter, '^%S+ %S+ %d+ %d+ %d+ (%d+)\n()')
  assert(at, 'a dead letter without its heading')
  answer[#answer + 1] = string.sub(letter, 1, at + tonumber(reason) - 1)
end
return answer
