#!lua flags=allow-oom
-- Closes the standing claim: what was condemned becomes dead letters, the frames go, the ledger is settled.
--
-- KEYS  state, processing, dead
-- ARGV  dataset, batcher, epoch, claim, then each place that the caller left out: '<frame>:<row or all>'
-- Gives {'done'}; refusals: unregistered, foreign, fenced, notstanding
--
-- Promises: all of it or nothing, and only for the claim of this id; the ledger is settled by what the claim recorded
-- when it was made. Closing it again answers notstanding and changes nothing. So does a list of what was left out that is
-- not the claim's: a Redis that came back older may have lost the list, or the end of it, and what was left out would be
-- neither written nor a dead letter.
local state, processing, dead = KEYS[1], KEYS[2], KEYS[3]
local refused = check_dataset(state, ARGV[1]) or check_lease(state, ARGV[2], ARGV[3]) or check_claim(state, ARGV[4])
if refused then return refused end

-- Everything that could fail, before the first write.
redis.call('ZCARD', dead)
redis.call('LLEN', processing)
local claim_rows, claim_bytes = number(state, 'claim_rows'), number(state, 'claim_bytes')
for _, column in ipairs({ 'claimed', 'acked', 'dead', 'bytes' }) do number(state, column) end
local done, letters, dead_rows, dead_bytes = {}, {}, 0, 0
if number(state, 'condemned') > 0 then
  local fields = redis.call('HGETALL', state)
  for at = 1, #fields, 2 do
    if string.sub(fields[at], 1, 10) == 'condemned:' then
      local rows, bytes = read_letter(fields[at + 1])
      done[#done + 1] = fields[at]
      letters[#letters + 1] = fields[at + 1]
      dead_rows = dead_rows + rows
      dead_bytes = dead_bytes + bytes
    end
  end
end

if #done ~= #ARGV - 4 then return { 'notstanding' } end
for at = 5, #ARGV do
  if redis.call('HEXISTS', state, 'condemned:' .. ARGV[at]) == 0 then return { 'notstanding' } end
end

for _, letter in ipairs(letters) do redis.call('ZADD', dead, 0, letter) end
for _, field in ipairs(done) do redis.call('HDEL', state, field) end
redis.call('UNLINK', processing)
redis.call('HDEL', state, 'claim_id', 'claim_rows', 'claim_bytes', 'claim_since', 'claim_epoch', 'claim_left',
  'claim_deaths', 'hand_frame', 'hand_last', 'hand_deaths', 'condemned')
move(state, 'claimed', 'dead', dead_rows)
move(state, 'claimed', 'acked', math.max(claim_rows - dead_rows, 0))
shed(state, claim_bytes)
redis.call('HINCRBY', state, 'bytes', dead_bytes)
return { 'done' }
