#!lua flags=allow-oom,no-writes
-- Tells the state of a partition at one instant.
--
-- KEYS  state, pending, processing, devices
-- ARGV  dataset
-- Gives {'status', accepted, pending, claimed, acked, dead, dropped, bytes, ms the oldest pending has waited or -1,
--       owner or '', claim or '', its heartbeats, ms it has stood, its deaths, devices that are
--       remembered, devices forgotten for want of room, heartbeats counted in a list that is empty}; refusals: unregistered,
--       foreign
local state, pending, processing, devices = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local refused = check_master() or check_dataset(state, ARGV[1])
if refused then return refused end
local now = now_ms()
local status = { 'status' }
for _, column in ipairs({ 'accepted', 'pending', 'claimed', 'acked', 'dead', 'dropped', 'bytes' }) do
  status[#status + 1] = number(state, column)
end

local waited, oldest = -1, redis.call('LINDEX', pending, 0)
if oldest then
  -- The header's `oldest`, at offset 17, is the accepting server's clock; what cannot be read has waited for no known time.
  local received_at = weigh(oldest) > 0 and struct.unpack('<i8', oldest, 18) or now
  waited = math.max(now - received_at, 0)
end
status[#status + 1] = waited

local claim = redis.call('HGET', state, 'claim_id')
status[#status + 1] = number(state, 'lease_until_ms') > now and redis.call('HGET', state, 'lease_owner') or ''
status[#status + 1] = claim or ''
status[#status + 1] = number(state, 'claim_rows')
status[#status + 1] = claim and math.max(now - number(state, 'claim_since'), 0) or 0
status[#status + 1] = number(state, 'claim_deaths')
status[#status + 1] = redis.call('ZCARD', devices)
status[#status + 1] = number(state, 'forgotten')

-- Frames go by no other hand than the scripts', which count them; a person, an eviction or an expiry does not.
local vanished = 0
if not oldest then vanished = number(state, 'pending') end
if redis.call('LLEN', processing) == 0 then vanished = vanished + number(state, 'claimed') end
status[#status + 1] = vanished
return status
