#!lua
-- Adds a page of devices to a partition that a drain fills.
--
-- KEYS  state, devices
-- ARGV  mark of the drain, then of each when it was last seen and its name (a page: some 1,000)
-- Gives {'done'}; refusals: taken
--
-- Promises: idempotent; a device is never set back.
local refused = check_drain(KEYS[1], ARGV[1])
if refused then return refused end
redis.call('ZADD', KEYS[2], 'GT', unpack(ARGV, 2))
return { 'done' }
