#!lua
-- Keeps one more token.
--
-- KEYS  tokens
-- ARGV  new version, most tokens, most bytes of records, id, record
-- Gives {'done'}, {'known'} when there is one of this id, or {'toomany'}
--
-- Promises: a token that stands is never written over. The sums are taken anew each time, since people make tokens seldom
-- and a count that is kept can go wrong.
--
-- The tokens belong to no dataset, as the list of batchers: they say who may come in at this buffer, and that must be sayable
-- before a batcher has registered it, so that no door ever has to stand open first.
local tokens = KEYS[1]
if redis.call('HEXISTS', tokens, ARGV[4]) == 1 then return { 'known' } end
local count, bytes, all = 1, #ARGV[5], redis.call('HGETALL', tokens)
for at = 1, #all, 2 do
  if all[at] ~= 'version' then
    count = count + 1
    bytes = bytes + #all[at + 1]
  end
end
if count > tonumber(ARGV[2]) or bytes > tonumber(ARGV[3]) then return { 'toomany' } end

redis.call('HSET', tokens, ARGV[4], ARGV[5], 'version', ARGV[1])
return { 'done' }
