#!lua flags=allow-oom,no-writes
-- Lists the tokens, unless they are still those that the asker knows.
--
-- KEYS  tokens
-- ARGV  version that is known, or ''
-- Gives {'same'} or {'tokens', version or '', id, record, …}
--
-- Promises: all of one instant. At most some 4 MiB (token_create.lua), and those only after a change.
local version = redis.call('HGET', KEYS[1], 'version') or ''
if ARGV[1] ~= '' and ARGV[1] == version then return { 'same' } end
local answer, all = { 'tokens', version }, redis.call('HGETALL', KEYS[1])
for at = 1, #all, 2 do
  if all[at] ~= 'version' then
    answer[#answer + 1] = all[at]
    answer[#answer + 1] = all[at + 1]
  end
end
return answer
