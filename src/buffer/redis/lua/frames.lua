#!lua flags=allow-oom,no-writes
-- Gives some of the frames of a partition that are pending or claimed, for readers; they stay where they are.
--
-- KEYS  state, pending, processing
-- ARGV  dataset, list to go on in (0 pending, 1 processing), how many of it are still to come, most frames, most bytes,
--       all: more than a list holds
-- Gives {'frames', list, still to come, frames}: where to go on, list 2 at the end; refusals: unregistered, foreign;
--       READONLY of a replica, which may lag behind what was acknowledged
--
-- Promises: a walk from (0, all) to the end gives every frame that is pending or claimed throughout, however they move. First
-- pending, from its tail to its head. A frame of a list only ever moves towards the head, so one that is still to come stays
-- among the first so many; and the walk ends, whatever is pushed behind it. A frame leaves pending at the head, into
-- processing, which is read behind it in the same way. Where the claim there is closed on the way and another is made, the
-- new one's frames waited all the while that pending was read, and have come already; those of the old one are written, or
-- dead letters. A dead letter that is put back on the way is as one that was just pushed.
local state = KEYS[1]
local refused = check_master() or check_dataset(state, ARGV[1])
if refused then return refused end
local list, left = tonumber(ARGV[2]), tonumber(ARGV[3])
local most_frames, most_bytes = tonumber(ARGV[4]), tonumber(ARGV[5])

local frames, bytes = {}, 0
while list < 2 and #frames < most_frames and bytes < most_bytes do
  local key = KEYS[list + 2]
  left = math.min(left, redis.call('LLEN', key))
  -- As many as fit, if they are like those before them: to find a place in a long list takes longer than to read on. But
  -- few, since each of them may have a MiB all the same, and is copied whether it is taken or not.
  local some = #frames == 0 and 1 or math.floor((most_bytes - bytes) * #frames / math.max(bytes, 1)) + 1
  some = math.min(some, 8, most_frames - #frames, left)
  local found = some > 0 and redis.call('LRANGE', key, left - some, left - 1) or {}
  for at = #found, 1, -1 do
    if bytes >= most_bytes then break end
    frames[#frames + 1] = found[at]
    bytes = bytes + #found[at]
    left = left - 1
  end
  if left == 0 then list, left = list + 1, tonumber(ARGV[6]) end
end
return { 'frames', list, left, frames }
