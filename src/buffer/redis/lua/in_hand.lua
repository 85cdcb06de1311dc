#!lua flags=allow-oom
-- Records which frame of the standing claim is about to be worked on.
--
-- KEYS  state
-- ARGV  dataset, batcher, epoch, claim, index of the frame or 'none'
-- Gives {'done'}; refusals: unregistered, foreign, fenced, notstanding
--
-- Promises: the record stands before the work begins, so that claim.lua can tell with what in hand an owner died.
local state = KEYS[1]
local refused = check_dataset(state, ARGV[1]) or check_lease(state, ARGV[2], ARGV[3]) or check_claim(state, ARGV[4])
if refused then return refused end
if ARGV[5] == 'none' then
  redis.call('HDEL', state, 'hand_frame')
else
  redis.call('HSET', state, 'hand_frame', ARGV[5])
end
return { 'done' }
