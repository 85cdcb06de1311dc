#!lua flags=allow-oom
-- Deletes a dead letter for good.
--
-- KEYS  state, dead
-- ARGV  dataset, id
-- Gives {'done'} or {'none'}; refusals: unregistered, foreign
--
-- Promises: the ledger keeps what was dropped in a column of its own, so that the books still balance.
local state, dead = KEYS[1], KEYS[2]
local refused = check_dataset(state, ARGV[1])
if refused then return refused end
local letter = find_letter(dead, ARGV[2])
if not letter then return { 'none' } end
local rows, bytes = read_letter(letter)
held(state)
number(state, 'dropped')

redis.call('ZREM', dead, letter)
move(state, 'dead', 'dropped', rows)
shed(state, bytes)
return { 'done' }
