#!lua
-- Appends one frame to a partition's pending list, unless that would pass a cap.
--
-- KEYS  state, pending
-- ARGV  dataset, cap in heartbeats, cap in bytes, frame
-- Gives {'held'}; refusals: unregistered, foreign, full, corrupt
--
-- Promises: the caps are exact under any number of producers; a refused frame leaves no trace. It is the one script
-- without allow-oom: a Redis at its maxmemory refuses it before it begins, and everything that drains goes on.
local state, pending, frame = KEYS[1], KEYS[2], ARGV[4]
local refused = check_dataset(state, ARGV[1])
if refused then return refused end
local rows, bytes = weigh(frame)
if rows == 0 then return { 'corrupt', 'a frame whose header does not fit it' } end
local held_rows, held_bytes = held(state)
if held_rows + rows > tonumber(ARGV[2]) or held_bytes + bytes > tonumber(ARGV[3]) then return { 'full' } end

redis.call('RPUSH', pending, frame)
redis.call('HINCRBY', state, 'accepted', rows)
redis.call('HINCRBY', state, 'pending', rows)
redis.call('HINCRBY', state, 'bytes', bytes)
return { 'held' }
