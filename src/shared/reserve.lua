-- Takes from all limits or from none.
--
-- KEYS      one for each limit, all of one hash tag
-- ARGV      deadline in ms since 1970 (0: none), lease, ms of a lease; then for each limit:
--           period or "slot", amount, ask
-- answers   {2} too late; {0, which, wait in ms or -1} refused;
--           {1, then for each limit: window, remaining, ms until it resets}
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
if 0 < tonumber(ARGV[1]) and tonumber(ARGV[1]) < now then
  return {2}
end

local DAY = 86400000
local SLIDES = {second = 1000, minute = 60000}
local SLOT_WAIT = 1000

local function month()
  local days = math.floor(now / DAY) + 719468
  local era = math.floor(days / 146097)
  local of_era = days - era * 146097
  local year = math.floor((of_era - math.floor(of_era / 1460) + math.floor(of_era / 36524)
    - math.floor(of_era / 146096)) / 365)
  local of_year = of_era - (365 * year + math.floor(year / 4) - math.floor(year / 100))
  local shifted = math.floor((5 * of_year + 2) / 153)
  local number = shifted < 10 and shifted + 3 or shifted - 9
  year = year + era * 400 + (number <= 2 and 1 or 0)
  local index = year * 12 + number - 1
  local next_year, next_month = math.floor((index + 1) / 12), (index + 1) % 12 + 1
  if next_month <= 2 then next_year = next_year - 1 end
  local e, y = math.floor(next_year / 400), next_year % 400
  local s = next_month > 2 and next_month - 3 or next_month + 9
  local d = math.floor((153 * s + 2) / 5)
  return index, (e * 146097 + y * 365 + math.floor(y / 4) - math.floor(y / 100) + d - 719468) * DAY
end

-- The window of now and when it ends.
local function span(period)
  local length, ahead = SLIDES[period], 0
  if period == 'hour' then length = 3600000 end
  if period == 'day' then length = DAY end
  if period == 'week' then length, ahead = 7 * DAY, 3 * DAY end
  if period == 'month' then return month() end
  if not length then return 0, nil end
  local index = math.floor((now + ahead) / length)
  return index, (index + 1) * length - ahead
end

-- How far into the next window no more than `room` is left of `part`.
local function frees_at(part, room, length)
  if part <= room then return 0 end
  return length - math.floor(room * length / part)
end

local function look(key, period, amount, ask)
  local kept = redis.call('HMGET', key, 'w', 'c', 'p')
  local window, current, previous = tonumber(kept[1]) or 0, tonumber(kept[2]) or 0, tonumber(kept[3]) or 0
  local index, ends = span(period)
  local length = SLIDES[period]
  if length then
    -- What slides is known by when it began: with the first use after nothing has counted.
    local passed = math.floor((now - window) / length)
    if 0 < passed then
      previous = passed == 1 and current or 0
      window, current = window + passed * length, 0
    end
    if previous == 0 and current == 0 then window = math.max(window, now) end
  elseif window < index then
    window, current = index, 0
  end
  local carried, elapsed = 0, 0
  if length then
    elapsed = math.max(0, math.min(now - window, length - 1))
    carried = math.ceil(previous * (length - elapsed) / length)
  end
  local used = carried + current
  local wait = nil
  if amount < used + ask then
    if amount < ask or not ends then
      wait = -1
    elseif not length then
      wait = ends - now
    elseif current + ask <= amount then
      wait = math.max(1, frees_at(previous, amount - ask - current, length) - elapsed)
    else
      wait = length - elapsed + frees_at(current, amount - ask, length)
    end
  end
  local resets = 0
  if length then
    resets = length - elapsed + (0 < current + ask and length or 0)
  elseif ends then
    resets = ends - now
  end
  return wait, {window = window, current = current, previous = previous,
    remaining = amount - used - ask, resets = resets}
end

local seen, first, longest = {}, nil, 0
for n, key in ipairs(KEYS) do
  local period, amount, ask = ARGV[n * 3 + 1], tonumber(ARGV[n * 3 + 2]), tonumber(ARGV[n * 3 + 3])
  local wait
  if period == 'slot' then
    redis.call('ZREMRANGEBYSCORE', key, '-inf', now)
    local used = redis.call('ZCARD', key)
    if amount < used + 1 then wait = amount == 0 and -1 or SLOT_WAIT end
    seen[n] = {window = 0, remaining = amount - used - 1, resets = 0}
  else
    wait, seen[n] = look(key, period, amount, ask)
  end
  if wait then
    first = first or n
    if longest ~= -1 and (wait == -1 or longest < wait) then longest = wait end
  end
end
if first then
  return {0, first, longest}
end

local answer = {1}
for n, key in ipairs(KEYS) do
  local period, ask, it = ARGV[n * 3 + 1], tonumber(ARGV[n * 3 + 3]), seen[n]
  if period == 'slot' then
    redis.call('ZADD', key, now + tonumber(ARGV[3]), ARGV[2])
    redis.call('PEXPIRE', key, 2 * tonumber(ARGV[3]))
  else
    -- Written out: a number of Lua's own making would lose its last digits.
    redis.call('HSET', key, 'w', string.format('%.0f', it.window),
      'c', string.format('%.0f', it.current + ask), 'p', string.format('%.0f', it.previous))
    if period ~= 'lifetime' then
      redis.call('PEXPIRE', key, string.format('%.0f', it.resets + 60000))
    end
  end
  answer[#answer + 1] = it.window
  answer[#answer + 1] = it.remaining
  answer[#answer + 1] = it.resets
end
return answer
