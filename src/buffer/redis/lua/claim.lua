#!lua flags=allow-oom
-- Hands back the standing claim of a partition, or makes one of the oldest pending frames.
--
-- KEYS  state, pending, processing
-- ARGV  dataset, batcher, epoch, id for a new claim, budget in heartbeats, in bytes of opened rows, in frames
-- Gives {'nothing'}, or {'claim', id, 1 if it stood before, heartbeats, deaths, frame in hand or -1, deaths with it,
--       condemned dead letters as {'<frame>:<row or all>', letter, …}, frames}; refusals: unregistered, foreign, fenced
--
-- Promises: frames move from pending to processing together with the record of the claim. A standing claim comes back
-- with the same frames in the same order. One that was handed to another epoch and neither acknowledged nor left on
-- purpose counts one death, for the frame in hand too; handing it to the same epoch again (a lost reply) counts nothing.
local state, pending, processing = KEYS[1], KEYS[2], KEYS[3]
local epoch = ARGV[3]
local refused = check_dataset(state, ARGV[1]) or check_lease(state, ARGV[2], epoch)
if refused then return refused end

-- Deaths by frame are kept as '17:2 40:1': frame 17 twice, frame 40 once.
local function deaths_of(frame, list)
  return tonumber(string.match(' ' .. list, ' ' .. frame .. ':(%d+)') or 0)
end

local function bury(frame, list)
  local others = string.gsub(' ' .. list, ' ' .. frame .. ':%d+', '')
  return string.sub(others .. ' ' .. frame .. ':' .. deaths_of(frame, list) + 1, 2)
end

local function hand_over(id)
  local last = redis.call('HMGET', state, 'claim_epoch', 'claim_left', 'hand_frame', 'hand_deaths')
  if last[1] == epoch then return end
  if last[2] ~= '1' then
    redis.call('HINCRBY', state, 'claim_deaths', 1)
    if last[3] then
      redis.call('HSET', state, 'hand_last', last[3], 'hand_deaths', bury(last[3], last[4] or ''))
    else
      redis.call('HDEL', state, 'hand_last')
    end
  end
  redis.call('HDEL', state, 'hand_frame')
  redis.call('HSET', state, 'claim_epoch', epoch, 'claim_left', 0)
end

local function condemned_of_claim()
  local condemned = {}
  if number(state, 'condemned') == 0 then return condemned end
  local fields = redis.call('HGETALL', state)
  for at = 1, #fields, 2 do
    local place = string.match(fields[at], '^condemned:(.+)$')
    if place then
      condemned[#condemned + 1] = place
      condemned[#condemned + 1] = fields[at + 1]
    end
  end
  return condemned
end

local standing = redis.call('HGET', state, 'claim_id')
if standing then
  local frames = redis.call('LRANGE', processing, 0, -1)
  hand_over(standing)
  local hand = redis.call('HMGET', state, 'hand_last', 'hand_deaths')
  return {
    'claim', standing, 1, number(state, 'claim_rows'), number(state, 'claim_deaths'), tonumber(hand[1] or -1),
    hand[1] and deaths_of(hand[1], hand[2] or '') or 0, condemned_of_claim(), frames,
  }
end

-- Frames in processing without a claim: the state was lost, and a person had the dataset adopt this Redis. They are claimed
-- anew, all of them and no others; what was written of them before is told by its rows.
local left_over = redis.call('LRANGE', processing, 0, -1)
if #left_over == 0 and redis.call('LLEN', pending) == 0 then return { 'nothing' } end
local most_rows, most_bytes, most_frames = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
number(state, 'pending')
number(state, 'claimed')

local frames, size, rows, bytes = {}, 0, 0, 0
local function take(frame)
  local frame_rows, frame_bytes, opened = weigh(frame)
  frames[#frames + 1] = frame
  size = size + opened
  rows = rows + frame_rows
  bytes = bytes + frame_bytes
end

for _, frame in ipairs(left_over) do take(frame) end
if #left_over == 0 then
  repeat
    local frame = redis.call('LMOVE', pending, processing, 'LEFT', 'RIGHT')
    if not frame then break end
    take(frame)
  until rows >= most_rows or size >= most_bytes or #frames >= most_frames
end
redis.call('HSET', state, 'claim_id', ARGV[4], 'claim_rows', rows, 'claim_bytes', bytes, 'claim_since', now_ms(),
  'claim_epoch', epoch, 'claim_left', 0, 'claim_deaths', 0)
move(state, 'pending', 'claimed', rows)
return { 'claim', ARGV[4], 0, rows, 0, -1, 0, {}, frames }
