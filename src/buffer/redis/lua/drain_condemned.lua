#!lua
-- Adds a page of what the standing claim condemned to a partition that a drain fills, as it was kept before.
--
-- KEYS  state
-- ARGV  mark of the drain, then for each: '<frame>:<row or all>', letter (a page: some 1,000)
-- Gives {'done'}; refusals: taken
--
-- Promises: idempotent; an entry that stands is written over by itself, and counted once.
local state = KEYS[1]
local refused = check_drain(state, ARGV[1])
if refused then return refused end
number(state, 'condemned')
local fields = {}
for at = 2, #ARGV, 2 do
  fields[#fields + 1] = 'condemned:' .. ARGV[at]
  fields[#fields + 1] = ARGV[at + 1]
end

local new = redis.call('HSET', state, unpack(fields))
redis.call('HINCRBY', state, 'condemned', new)
return { 'done' }
