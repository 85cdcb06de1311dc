#!lua
-- Appends frames to the pending lists of their partitions, each unless that would pass a cap.
--
-- KEYS  state, pending
--       … of as many partitions as the frames belong to; on a Cluster, of one
-- ARGV  dataset, cap of a partition in heartbeats, in bytes, then of each frame the number of its partition among KEYS
--       (from 1) and the frame
-- Gives for each frame {'held', heartbeats that the partition has accepted up to and with it}, or its refusal:
--       unregistered, foreign, full, corrupt
--
-- Promises: the caps are exact under any number of producers; a refused frame leaves no trace. It is the one script
-- without allow-oom: a Redis at its maxmemory refuses it before it begins, and everything that drains goes on.
-- Every heartbeat passes here, so a partition is read once and written once, whatever it is given.
local dataset, cap_rows, cap_bytes = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])

local books = {}
for at = 1, #KEYS, 2 do
  local found = redis.call('HMGET', KEYS[at], 'dataset', 'accepted', 'pending', 'claimed', 'dead', 'bytes')
  books[#books + 1] = {
    state = KEYS[at], list = KEYS[at + 1], frames = {}, places = {},
    refused = found[1] ~= dataset and check_dataset(KEYS[at], dataset),
    accepted = count(found, 2, 'accepted'), pending = count(found, 3, 'pending'), bytes = count(found, 6, 'bytes'),
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

local answers = {}
for at = 4, #ARGV, 2 do
  local book = books[tonumber(ARGV[at])]
  local answer = judge(book, ARGV[at + 1])
  answers[#answers + 1] = answer
  if answer[1] == 'held' then
    book.frames[#book.frames + 1] = ARGV[at + 1]
    book.places[#book.places + 1] = #answers
  end
end

for _, book in ipairs(books) do
  if #book.frames > 0 then
    local pushed = redis.pcall('RPUSH', book.list, unpack(book.frames))
    if type(pushed) == 'number' then
      redis.call('HSET', book.state, 'accepted', whole(book.accepted), 'pending', whole(book.pending),
        'bytes', whole(book.bytes))
    else
      for _, place in ipairs(book.places) do answers[place] = { 'corrupt', pushed.err } end
    end
  end
end
return answers
