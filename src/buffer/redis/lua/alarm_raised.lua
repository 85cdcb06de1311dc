#!lua flags=allow-oom,no-writes
-- Lists what is raised.
--
-- KEYS  raised
-- ARGV  key after which to begin or '', most devices
-- Gives {'raised', member, …}
local refused = check_master()
if refused then return refused end
local from = ARGV[1] == '' and '-' or '[' .. ARGV[1] .. '\11'
local answer = redis.call('ZRANGEBYLEX', KEYS[1], from, '+', 'LIMIT', 0, ARGV[2])
table.insert(answer, 1, 'raised')
return answer
