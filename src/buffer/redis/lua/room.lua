#!lua flags=allow-oom,no-writes
-- Says which of some loads a partition could take at this moment, each judged alone.
--
-- KEYS  state
-- ARGV  dataset, cap in heartbeats, cap in bytes, then heartbeats and bytes of each load
-- Gives {'room', 1 or 0 for each load}; refusals: unregistered, foreign
local state = KEYS[1]
local refused = check_master() or check_dataset(state, ARGV[1])
if refused then return refused end
local held_rows, held_bytes = held(state)
local room = { 'room' }
for at = 4, #ARGV, 2 do
  local fits = held_rows + tonumber(ARGV[at]) <= tonumber(ARGV[2])
    and held_bytes + tonumber(ARGV[at + 1]) <= tonumber(ARGV[3])
  room[#room + 1] = fits and 1 or 0
end
return room
