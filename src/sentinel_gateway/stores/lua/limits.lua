-- Takes from the buckets of one request, all or nothing, or books what is known afterwards. The sums are those of core/limits.py.
--
-- KEYS     the buckets, each once, all of one tenant and so in one hash slot
-- ARGV[1]  "take", or "settle": whatever the limits say
-- ARGV[2]  the name of the places in flight that are taken, given back, or (taken again) kept for longer
-- ARGV[3]  milliseconds after which a place that nobody gave back is free again
-- then five numbers a bucket, the first four in parts: what comes back each millisecond (0: places in flight), the capacity, the
-- cost, what is spent as far as the caller knows, and the birth of the bucket that it knows
--
-- Answers: 1 if it was taken, else 0; the time; what was spent of each bucket before, in parts; the birth of each, 0 for none.
--
-- A bucket is "spent at rate born", kept as long as anybody may know of something that is spent of it. So one that is absent, or
-- was born since the caller has last seen it, was lost: what the caller knows then counts, if it is more. Places in flight are a
-- sorted set by the time at which each ends by itself, so those of a node that died come back; a caller knows its own at least.
-- All numbers stay below 2^53, so they are exact: nobody owes more than DEEPEST times the whole limit.

local UNIT = 60000
local DEEPEST = 100
local EACH = 5
local time = redis.call("TIME")
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local taking, holder, lease = ARGV[1] == "take", ARGV[2], tonumber(ARGV[3])

local function read_bucket(key)
  local spent, at, rate, born = string.match(redis.call("GET", key) or "0 0 0 0", "^(%d+) (%d+) (%d+) (%d+)$")
  spent, at, rate, born = tonumber(spent), tonumber(at), tonumber(rate), tonumber(born)
  if now > at then
    spent = math.max(0, spent - rate * (now - at))
  end
  return spent, born
end

local function count_places(key)
  redis.call("ZREMRANGEBYSCORE", key, "-inf", now)
  return redis.call("ZCARD", key) * UNIT, 0
end

local function keep_bucket(key, rate, capacity, spent, born)
  spent = math.max(0, math.min(spent, DEEPEST * capacity))
  if born == 0 then
    born = time[1] * 1000000 + time[2]
  end
  local milliseconds = math.max(math.ceil(spent / rate), redis.call("PTTL", key))
  if milliseconds <= 0 then
    redis.call("DEL", key)
    return 0
  end
  redis.call("SET", key, string.format("%.0f %.0f %.0f %.0f", spent, now, rate, born), "PX", milliseconds)
  return born
end

local function keep_place(key, cost)
  if cost > 0 then
    redis.call("ZADD", key, now + lease, holder)
    redis.call("PEXPIRE", key, lease)
  else
    redis.call("ZREM", key, holder)
  end
end

local taken, buckets = 1, {}
for i, key in ipairs(KEYS) do
  local rate, capacity, cost, known, seen = unpack(ARGV, EACH * (i - 1) + 4, EACH * i + 3)
  rate, capacity, cost, known, seen = tonumber(rate), tonumber(capacity), tonumber(cost), tonumber(known), tonumber(seen)
  local read = rate > 0 and read_bucket or count_places
  local here, born = read(key)
  local spent = here
  if born == 0 or born ~= seen then
    spent = math.max(here, known)
  end
  if taking and cost ~= 0 and spent + cost > capacity then
    taken = 0
  end
  buckets[i] = {key = key, rate = rate, capacity = capacity, cost = cost, spent = spent, born = born, lost = spent > here}
end

local answer = {taken, now}
for i, bucket in ipairs(buckets) do
  local cost = taken * bucket.cost
  if bucket.rate == 0 and cost ~= 0 then
    keep_place(bucket.key, cost)
  elseif bucket.rate > 0 and (cost ~= 0 or bucket.lost) then
    bucket.born = keep_bucket(bucket.key, bucket.rate, bucket.capacity, bucket.spent + cost, bucket.born)
  end
  answer[i + 2], answer[i + 2 + #KEYS] = bucket.spent, bucket.born
end
return answer
