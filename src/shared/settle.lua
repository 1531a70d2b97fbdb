-- Puts what was used in the place of what was reserved.
--
-- KEYS   one for each limit, all of one hash tag
-- ARGV   lease; then for each limit: length of a sliding period in ms, 0 for a window of the
--        calendar, or "slot"; the window in which it was taken; reserved; used
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)

for n, key in ipairs(KEYS) do
  local at = (n - 1) * 4 + 2
  local kind, taken = ARGV[at], tonumber(ARGV[at + 1])
  local reserved, used = tonumber(ARGV[at + 2]), tonumber(ARGV[at + 3])
  if kind == 'slot' then
    redis.call('ZREM', key, ARGV[1])
  else
    local length = tonumber(kind)
    local kept = redis.call('HMGET', key, 'w', 'c', 'p')
    local window = tonumber(kept[1]) or taken
    local current, previous = tonumber(kept[2]) or 0, tonumber(kept[3]) or 0
    if 0 < length and length <= now - window then
      local passed = math.floor((now - window) / length)
      previous = passed == 1 and current or 0
      window, current = window + passed * length, 0
    end
    local is_changed = true
    if taken == window then
      current = math.max(0, current - reserved) + used
    elseif 0 < length and taken + length == window then
      previous = math.max(0, previous - reserved) + used
    elseif 0 < length then
      current = current + math.max(0, used - reserved)
    else
      is_changed = false -- Its window is gone, and what was reserved with it.
    end
    if is_changed then
      local is_new = not kept[1]
      redis.call('HSET', key, 'w', string.format('%.0f', window),
        'c', string.format('%.0f', current), 'p', string.format('%.0f', previous))
      if 0 < length then
        redis.call('PEXPIRE', key, 2 * length + 60000)
      elseif is_new and 0 < taken then
        redis.call('PEXPIRE', key, 2764800000) -- No window of the calendar is longer than 32 days.
      end
    end
  end
end
return 0
