#!lua flags=allow-oom,no-writes
-- Tells what a partition holds, to a drain that has touched nothing yet.
--
-- KEYS  state, pending, processing, dead, devices
-- ARGV  none
-- Gives {'found', how many of the keys there are, dataset or '', mark of a drain or ''}
local refused = check_master()
if refused then return refused end
local found = redis.call('HMGET', KEYS[1], 'dataset', 'drain')
return { 'found', redis.call('EXISTS', unpack(KEYS)), found[1] or '', found[2] or '' }
