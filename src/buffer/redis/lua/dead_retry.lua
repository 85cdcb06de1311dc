#!lua flags=allow-oom
-- Puts a dead letter's frame back at the end of the pending list.
--
-- KEYS  state, pending, dead
-- ARGV  dataset, cap in heartbeats, cap in bytes, id
-- Gives {'done'} or {'none'}; refusals: unregistered, foreign, full
--
-- Promises: the frame is a dead letter or pending, never both and never neither. A dead letter counts against the caps
-- where it stands, so moving it adds nothing; it is refused only where a partition holds more than its caps by now.
local state, pending, dead = KEYS[1], KEYS[2], KEYS[3]
local refused = check_dataset(state, ARGV[1])
if refused then return refused end
local letter = find_letter(dead, ARGV[4])
if not letter then return { 'none' } end
local held_rows, held_bytes = held(state)
if held_rows > tonumber(ARGV[2]) or held_bytes > tonumber(ARGV[3]) then return { 'full' } end
local rows, _, frame = read_letter(letter)
redis.call('LLEN', pending)

redis.call('RPUSH', pending, frame)
redis.call('ZREM', dead, letter)
move(state, 'dead', 'pending', rows)
return { 'done' }
