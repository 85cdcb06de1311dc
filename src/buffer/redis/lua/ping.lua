#!lua
-- Tries whether a push would be let in, short of pushing.
--
-- KEYS  state
-- ARGV  dataset
-- Gives {'done', heartbeats accepted so far}; refusals: unregistered, foreign
--
-- Promises: writes nothing. Without flags it counts as a script that may write, so Redis refuses it whenever it would
-- refuse a push: read-only, out of memory, unable to save, still loading.
return check_dataset(KEYS[1], ARGV[1]) or { 'done', number(KEYS[1], 'accepted') }
