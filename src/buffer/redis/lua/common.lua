-- The beginning that all scripts share: script.rs puts it between a script's shebang line and its text.
--
-- Refusals, which a script returns before its first write:
--   {'unregistered'}      the state carries no dataset id
--   {'foreign', id}       it carries another one
--   {'moving'}            a drain has begun to fill it, and not finished
--   {'taken'}             it is not, or not any more, what this drain may fill
--   {'fenced'}            the lease is another's by now
--   {'notstanding'}       no claim with this id stands
--   {'unwatched'}         another process watches over silence by now
--   {'full'}              it would pass the cap
--   {'corrupt', what}     what the keys hold is not what any script writes

-- Milliseconds since the Unix epoch by Redis's clock: the one clock that all processes share.
local function now_ms()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- Every script that only looks asks this first: a replica, or a master that was demoted, would tell what was true once.
-- Scripts that may write are refused there by Redis itself.
local function check_master()
  if string.find(redis.call('INFO', 'replication'), 'role:slave', 1, true) then
    return redis.error_reply('READONLY this is a replica')
  end
end

local function check_dataset(state, dataset)
  local found = redis.call('HGET', state, 'dataset')
  if not found then return { 'unregistered' } end
  if found ~= dataset then return { 'foreign', found } end
end

-- A drain fills a partition between its mark and the dataset id, which comes last: so to all other scripts a partition
-- that is not whole yet is an unregistered one.
local function check_drain(state, drain)
  local found = redis.call('HMGET', state, 'dataset', 'drain')
  if found[1] or found[2] ~= drain then return { 'taken' } end
end

local function check_lease(state, batcher, epoch)
  local lease = redis.call('HMGET', state, 'lease_owner', 'lease_epoch')
  if lease[1] ~= batcher or lease[2] ~= epoch then return { 'fenced' } end
end

local function check_claim(state, claim)
  if redis.call('HGET', state, 'claim_id') ~= claim then return { 'notstanding' } end
end

local function check_watch(watch, watcher)
  if redis.call('HGET', watch, 'owner') ~= watcher then return { 'unwatched' } end
end

-- A counter of the state, out of what HMGET gave. A text that is no number makes the script fail here, before its first
-- write.
local function count(found, at, field)
  local value = tonumber(found[at] or 0)
  assert(value, field .. ' is no number')
  return value
end

local function number(state, field)
  return count({ redis.call('HGET', state, field) }, 1, field)
end

-- A counter as text: Lua's own way writes 1e+15 from a certain size on.
local function whole(number)
  return string.format('%d', number)
end

-- What a frame is by its header (see heartbeat/frame.rs): heartbeats and bytes, as the ledger counts them, and the bytes
-- that its rows take once they are opened. Nothing at all for what no push has written: it was never accepted, so it must
-- not leave the books either.
local function weigh(frame)
  local size = #frame
  if size <= 25 then return 0, 0, size end
  local version, count, length = struct.unpack('<BI4I4', frame)
  if version == 0 or count < 1 or count > length * 256 or length >= size then return 0, 0, size end
  if version == 1 and length ~= size - 25 or version == 2 and length ~= size - 29 then return 0, 0, size end
  return count, size, version == 2 and struct.unpack('<I4', frame, 26) or size
end

-- What the partition holds against its caps: heartbeats and bytes, dead letters among them.
local function held(state)
  local found = redis.call('HMGET', state, 'pending', 'claimed', 'dead', 'bytes')
  return count(found, 1, 'pending') + count(found, 2, 'claimed') + count(found, 3, 'dead'), count(found, 4, 'bytes')
end

-- Moves heartbeats from one column of the ledger to another, never more than stand in it: so the books balance
-- whatever the lists hold.
local function move(state, from, to, rows)
  local moved = math.min(rows, number(state, from))
  if moved > 0 then
    redis.call('HINCRBY', state, from, -moved)
    redis.call('HINCRBY', state, to, moved)
  end
end

-- Takes bytes off what is held. Nothing is taken off as nothing: Lua's -0 is no number to Redis.
local function shed(state, bytes)
  local shed = math.min(bytes, number(state, 'bytes'))
  if shed > 0 then redis.call('HINCRBY', state, 'bytes', -shed) end
end

-- A dead letter is one member of the sorted set `dead`, all of score 0, so that they stand in the order of their ids
-- (UUIDv7: by age): '<id> <claim> <since ms> <rows> <bytes> <length of reason>\n' reason frame.
local function write_letter(id, claim, since, reason, frame)
  local rows, bytes = weigh(frame)
  return string.format('%s %s %.0f %.0f %.0f %d\n', id, claim, since, rows, bytes, #reason) .. reason .. frame
end

-- Rows and bytes by which the ledger counts a letter, and its frame.
local function read_letter(letter)
  local rows, bytes, reason, at = string.match(letter, '^%S+ %S+ %d+ (%d+) (%d+) (%d+)\n()')
  assert(at, 'a dead letter without its heading')
  return tonumber(rows), tonumber(bytes), string.sub(letter, at + tonumber(reason))
end

-- The letter with this id, or nil.
local function find_letter(dead, id)
  return redis.call('ZRANGEBYLEX', dead, '[' .. id .. ' ', '[' .. id .. '!', 'LIMIT', 0, 1)[1]
end
