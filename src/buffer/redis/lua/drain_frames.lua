#!lua
-- Appends a page of frames to one of the two lists of a partition that a drain fills.
--
-- KEYS  state, pending, processing
-- ARGV  mark of the drain, 'pending' or 'processing', length that the list must have, frames (a page: some 1,000)
-- Gives {'at', length of the list now}; refusals: taken
--
-- Promises: all of the page or nothing of it, and only behind exactly what came before it. A page that comes again, after
-- a lost answer or from a try that was given up, finds another length and changes nothing; the length says where to go on.
local refused = check_drain(KEYS[1], ARGV[1])
if refused then return refused end
local list = ARGV[2] == 'processing' and KEYS[3] or KEYS[2]
local at = redis.call('LLEN', list)
if at == tonumber(ARGV[3]) then at = redis.call('RPUSH', list, unpack(ARGV, 4)) end
return { 'at', at }
