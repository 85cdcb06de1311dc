#!lua flags=allow-oom,no-writes
-- Lists dead letters, oldest first.
--
-- KEYS  state, dead
-- ARGV  dataset, id after which to begin or '', most letters, most bytes
-- Gives {'letters', letter, …}: at least one if there is one, then as many as both bounds allow; refusals:
--       unregistered, foreign
local state, dead = KEYS[1], KEYS[2]
local refused = check_master() or check_dataset(state, ARGV[1])
if refused then return refused end
local most, most_bytes = tonumber(ARGV[3]), tonumber(ARGV[4])
-- '!' comes right after the space that ends an id.
local from = ARGV[2] == '' and '-' or '(' .. ARGV[2] .. '!'
local answer, bytes = { 'letters' }, 0
while #answer <= most and bytes < most_bytes do
  local letter = redis.call('ZRANGEBYLEX', dead, from, '+', 'LIMIT', 0, 1)[1]
  if not letter then break end
  answer[#answer + 1] = letter
  bytes = bytes + #letter
  from = '(' .. string.match(letter, '^%S+') .. '!'
end
return answer
