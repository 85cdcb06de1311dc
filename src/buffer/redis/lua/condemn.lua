#!lua flags=allow-oom
-- Adds to the list of what the standing claim can never have written.
--
-- KEYS  state, processing
-- ARGV  dataset, batcher, epoch, claim, then for each: id, index of the frame, index of the row or 'all', reason, frame
-- Gives {'done'}; refusals: unregistered, foreign, fenced, notstanding, corrupt
--
-- Promises: an entry that stands stays as it is. A whole frame stands for all of its rows: rows of it that were
-- condemned before are dropped in its favour, and none is added behind it, so that no heartbeat is counted twice.
local state, processing = KEYS[1], KEYS[2]
local refused = check_dataset(state, ARGV[1]) or check_lease(state, ARGV[2], ARGV[3]) or check_claim(state, ARGV[4])
if refused then return refused end
local frames = redis.call('LLEN', processing)
for at = 5, #ARGV, 5 do
  if tonumber(ARGV[at + 1]) >= frames then
    return { 'corrupt', 'frame ' .. ARGV[at + 1] .. ' is condemned in a claim of ' .. frames }
  end
end
number(state, 'condemned')

local function drop_rows_of(frame)
  local prefix = 'condemned:' .. frame .. ':'
  for _, field in ipairs(redis.call('HKEYS', state)) do
    if string.sub(field, 1, #prefix) == prefix then
      redis.call('HDEL', state, field)
      redis.call('HINCRBY', state, 'condemned', -1)
    end
  end
end

local since = now_ms()
for at = 5, #ARGV, 5 do
  local id, frame, row, reason, bytes = ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3], ARGV[at + 4]
  local field = 'condemned:' .. frame .. ':' .. row
  local stands = redis.call('HEXISTS', state, field) == 1
    or redis.call('HEXISTS', state, 'condemned:' .. frame .. ':all') == 1
  if not stands then
    if row == 'all' and number(state, 'condemned') > 0 then drop_rows_of(frame) end
    redis.call('HSET', state, field, write_letter(id, ARGV[4], since, reason, bytes))
    redis.call('HINCRBY', state, 'condemned', 1)
  end
end
return { 'done' }
