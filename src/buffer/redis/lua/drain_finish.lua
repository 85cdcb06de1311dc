#!lua flags=allow-oom
-- Makes a partition of what a drain has filled in: writes its whole state, dataset id and all, at once.
--
-- KEYS  state, pending, processing, dead
-- ARGV  mark of the drain, frames that must be in pending, in processing, letters in dead, condemned of the claim, then
--       fields and values of the state
-- Gives {'done'}; refusals: taken, corrupt
--
-- Promises: before it, every other script refuses the partition; after it, each takes it for one that was always here. Only
-- when all came over. Done again, it changes nothing: what was pushed or claimed since stays.
local state = KEYS[1]
local found = redis.call('HMGET', state, 'dataset', 'drain')
if found[2] ~= ARGV[1] then return { 'taken' } end
if found[1] then return { 'done' } end
local came = {
  { 'pending', redis.call('LLEN', KEYS[2]) },
  { 'processing', redis.call('LLEN', KEYS[3]) },
  { 'dead', redis.call('ZCARD', KEYS[4]) },
  { 'condemned', number(state, 'condemned') },
}
for at, list in ipairs(came) do
  if list[2] ~= tonumber(ARGV[at + 1]) then
    return { 'corrupt', list[1] .. ' holds ' .. list[2] .. ' of the ' .. ARGV[at + 1] .. ' that were moved' }
  end
end

redis.call('HSET', state, unpack(ARGV, 6))
return { 'done' }
