#!lua flags=allow-oom,no-writes
-- Lists devices of a partition by when they were last seen, the longest unseen first, those of one time by their names.
--
-- KEYS  state, devices
-- ARGV  dataset, ms before which whoever was last seen then is forgotten, ms before which they must have been last seen, how
--       many at most (some 1,000), then of the one to begin behind when it was last seen, or '', and its name
-- Gives {'devices', {name, ms it was last seen, …}}; refusals: unregistered, foreign
local refused = check_master() or check_dataset(KEYS[1], ARGV[1])
if refused then return refused end
local devices, most = KEYS[2], tonumber(ARGV[4])

-- Bytewise, as Redis sorts members; Lua's own way asks the locale.
local function precedes(one, other)
  for at = 1, math.min(#one, #other) do
    local left, right = string.byte(one, at), string.byte(other, at)
    if left ~= right then return left < right end
  end
  return #one < #other
end

local function below(score)
  return redis.call('ZCOUNT', devices, '-inf', '(' .. score)
end

-- The rank of the first one behind that one, which may have moved since.
local function behind(score, name)
  local low = below(score)
  local high = low + redis.call('ZCOUNT', devices, score, score)
  while low < high do
    local middle = math.floor((low + high) / 2)
    if precedes(name, redis.call('ZRANGE', devices, middle, middle)[1]) then high = middle else low = middle + 1 end
  end
  return low
end

local first = below(ARGV[2])
if ARGV[5] ~= '' then first = math.max(first, behind(ARGV[5], ARGV[6])) end
local last = math.min(first + most, below(ARGV[3])) - 1
if last < first then return { 'devices', {} } end
return { 'devices', redis.call('ZRANGE', devices, first, last, 'WITHSCORES') }
