#!lua
-- Appends frames to the pending lists of their partitions, each unless that would pass a cap, and remembers their devices.
--
-- KEYS  state, pending, devices
--       … of as many partitions as the frames belong to; on a Cluster, of one
-- ARGV  dataset, cap of a partition in heartbeats, in bytes, ms for which a device is remembered, devices of a partition at
--       most (0 to remember none), then of each frame the number of its partition among KEYS (from 1), the frame, how many
--       devices are in it, and of each when it was last seen and its name (some 4,000 of them in all, or those of one frame)
-- Gives for each frame {'held', heartbeats that the partition has accepted up to and with it}, or its refusal:
--       unregistered, foreign, full, corrupt
--
-- Promises: the caps are exact under any number of producers; a refused frame leaves no trace, in `devices` neither. A device
-- is never set back. It is the one script without allow-oom: a Redis at its maxmemory refuses it before it begins, and
-- everything that drains goes on.
-- Every heartbeat passes here, so a partition is read once and written once, whatever it is given.
local dataset, cap_rows, cap_bytes = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local remembered_ms, most_devices = tonumber(ARGV[4]), tonumber(ARGV[5])
-- Devices that are forgotten in one call at most, besides as many as come.
local FORGET_AT_ONCE = 1000
-- What `unpack` is given at a time: Lua's stack has room for some 8,000.
local UNPACK_AT_ONCE = 4000

local books = {}
for at = 1, #KEYS, 3 do
  local found = redis.call('HMGET', KEYS[at], 'dataset', 'accepted', 'pending', 'claimed', 'dead', 'bytes')
  local accepted = count(found, 2, 'accepted')
  books[#books + 1] = {
    state = KEYS[at], list = KEYS[at + 1], devices = KEYS[at + 2], frames = {}, places = {}, seen = {},
    refused = found[1] ~= dataset and check_dataset(KEYS[at], dataset),
    before = accepted, accepted = accepted, pending = count(found, 3, 'pending'), bytes = count(found, 6, 'bytes'),
    others = count(found, 4, 'claimed') + count(found, 5, 'dead'),
  }
end

local function judge(book, frame)
  if book.refused then return book.refused end
  local rows, bytes = weigh(frame)
  if rows == 0 then return { 'corrupt', 'a frame whose header does not fit it' } end
  if book.pending + book.others + rows > cap_rows or book.bytes + bytes > cap_bytes then return { 'full' } end
  book.accepted, book.pending, book.bytes = book.accepted + rows, book.pending + rows, book.bytes + bytes
  return { 'held', book.accepted }
end

local answers, at = {}, 6
while at <= #ARGV do
  local book, frame, devices = books[tonumber(ARGV[at])], ARGV[at + 1], tonumber(ARGV[at + 2])
  local answer = judge(book, frame)
  answers[#answers + 1] = answer
  if answer[1] == 'held' then
    book.frames[#book.frames + 1] = frame
    book.places[#book.places + 1] = #answers
    if devices > 0 and most_devices > 0 then book.seen[#book.seen + 1] = { at + 3, at + 2 + 2 * devices } end
  end
  at = at + 3 + 2 * devices
end

local function forget(devices, count)
  if count > 0 then return redis.call('ZREMRANGEBYRANK', devices, 0, count - 1) end
  return 0
end

-- Before the frames: what cannot be remembered must not be held either. Gives how many devices are new.
local function remember(book)
  local added = 0
  for _, part in ipairs(book.seen) do
    for from = part[1], part[2], UNPACK_AT_ONCE do
      local to = math.min(from + UNPACK_AT_ONCE - 1, part[2])
      local new = redis.pcall('ZADD', book.devices, 'GT', unpack(ARGV, from, to))
      if type(new) ~= 'number' then return new end
      added = added + new
    end
  end
  return added
end

local function forget_some(book, added)
  -- Looked for with each thousandth heartbeat or so, and readers pass over those that are left.
  if math.floor(book.before / 1000) ~= math.floor(book.accepted / 1000) then
    local old = redis.call('ZCOUNT', book.devices, '-inf', '(' .. whole(now_ms() - remembered_ms))
    forget(book.devices, math.min(old, FORGET_AT_ONCE))
  end
  if added == 0 then return end
  local over = redis.call('ZCARD', book.devices) - most_devices
  local forgotten = forget(book.devices, math.min(over, added + FORGET_AT_ONCE))
  if forgotten > 0 then redis.call('HINCRBY', book.state, 'forgotten', forgotten) end
end

for _, book in ipairs(books) do
  if #book.frames > 0 then
    local added = remember(book)
    local pushed = type(added) == 'number' and redis.pcall('RPUSH', book.list, unpack(book.frames)) or added
    if type(pushed) == 'number' then
      redis.call('HSET', book.state, 'accepted', whole(book.accepted), 'pending', whole(book.pending),
        'bytes', whole(book.bytes))
      if #book.seen > 0 then forget_some(book, added) end
    else
      for _, place in ipairs(book.places) do answers[place] = { 'corrupt', pushed.err } end
    end
  end
end
return answers
