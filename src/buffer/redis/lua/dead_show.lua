#!lua flags=allow-oom,no-writes
-- Shows one dead letter.
--
-- KEYS  state, dead
-- ARGV  dataset, id
-- Gives {'letter', letter} or {'none'}; refusals: unregistered, foreign
local refused = check_master() or check_dataset(KEYS[1], ARGV[1])
if refused then return refused end
local letter = find_letter(KEYS[2], ARGV[2])
return letter and { 'letter', letter } or { 'none' }
