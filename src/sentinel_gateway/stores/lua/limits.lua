-- Takes from the buckets of one request, all or nothing, or books what is known afterwards. The sums are those of core/limits.py.
--
-- KEYS     the buckets, each once, all of one tenant and so in one hash slot
-- ARGV[1]  "take", or "settle": whatever the limits say
-- ARGV[2]  the name of the places in flight that are taken or given back
-- ARGV[3]  milliseconds after which a place that nobody gave back is free again
-- then three numbers a bucket, in parts: what comes back each millisecond (0: places in flight), the capacity, the cost
--
-- Answers: 1 if it was taken, else 0; the time; then what was spent of each bucket before, in parts.
--
-- A bucket is "spent at rate", kept until it is whole again. Places in flight are a sorted set by the time at which each ends
-- by itself, so those of a node that died come back. All numbers stay below 2^53, so they are exact: nobody owes more than
-- DEEPEST times the whole limit.

local UNIT = 60000
local DEEPEST = 100
local time = redis.call("TIME")
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local taking, holder, lease = ARGV[1] == "take", ARGV[2], tonumber(ARGV[3])

local function spent_of_bucket(key)
  local spent, at, rate = string.match(redis.call("GET", key) or "0 0 0", "^(%d+) (%d+) (%d+)$")
  spent, at, rate = tonumber(spent), tonumber(at), tonumber(rate)
  if now > at then
    return math.max(0, spent - rate * (now - at))
  end
  return spent
end

local function places_taken(key)
  redis.call("ZREMRANGEBYSCORE", key, "-inf", now)
  return redis.call("ZCARD", key) * UNIT
end

local function keep_bucket(key, rate, capacity, spent)
  spent = math.min(spent, DEEPEST * capacity)
  if spent > 0 then
    redis.call("SET", key, string.format("%.0f %.0f %.0f", spent, now, rate), "PX", math.ceil(spent / rate))
  else
    redis.call("DEL", key)
  end
end

local function keep_place(key, cost)
  if cost > 0 then
    redis.call("ZADD", key, now + lease, holder)
    redis.call("PEXPIRE", key, lease)
  else
    redis.call("ZREM", key, holder)
  end
end

local answer = {1, now}
local rates, capacities, costs = {}, {}, {}
for i, key in ipairs(KEYS) do
  local rate, capacity, cost = tonumber(ARGV[3 * i + 1]), tonumber(ARGV[3 * i + 2]), tonumber(ARGV[3 * i + 3])
  local spent = rate > 0 and spent_of_bucket(key) or places_taken(key)
  if taking and cost ~= 0 and spent + cost > capacity then
    answer[1] = 0
  end
  rates[i], capacities[i], costs[i], answer[i + 2] = rate, capacity, cost, spent
end

if answer[1] == 1 then
  for i, key in ipairs(KEYS) do
    if rates[i] == 0 then
      if costs[i] ~= 0 then
        keep_place(key, costs[i])
      end
    elseif costs[i] ~= 0 then
      keep_bucket(key, rates[i], capacities[i], answer[i + 2] + costs[i])
    end
  end
end
return answer
