#!lua
-- Adds a page of dead letters to a partition that a drain fills, as they were kept before.
--
-- KEYS  state, dead
-- ARGV  mark of the drain, letters (a page: some 1,000)
-- Gives {'done'}; refusals: taken
--
-- Promises: idempotent, since a letter that stands is the same member again.
local refused = check_drain(KEYS[1], ARGV[1])
if refused then return refused end
local members = {}
for at = 2, #ARGV do
  members[#members + 1] = 0
  members[#members + 1] = ARGV[at]
end
redis.call('ZADD', KEYS[2], unpack(members))
return { 'done' }
