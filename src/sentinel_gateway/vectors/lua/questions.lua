-- The questions of one scope, whose four keys stand in one slot. One step is atomic: what several nodes do at once happens
-- in some order.
--
-- KEYS heads  hash: of each question that waits for a vector, its value
--    waiting  sorted set: the same, in the order in which they came
--    set    vector set: the questions that have a vector; the attribute is the value
--    ends   sorted set: the same, by when they expire
-- ARGV what to do, and its arguments
--
-- A value begins with a stamp, which tells an answer from the next one under the same key.

local heads, waiting, set, ends = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local STAMP = 16 -- bytes
local SWEPT = 8  -- dead questions that are taken away for each that gets a vector: more than come in go out

local function forget(key)
  redis.call("HDEL", heads, key)
  redis.call("ZREM", waiting, key)
  redis.call("VREM", set, key)
  redis.call("ZREM", ends, key)
end

local function value_of(key)
  return redis.call("HGET", heads, key) or redis.call("VGETATTR", set, key)
end

local function is_stamped(value, stamp)
  return string.sub(value, 1, STAMP) == stamp
end

local function keep(key, seconds) -- no shorter than the longest of its questions
  if redis.call("TTL", key) < seconds then
    redis.call("EXPIRE", key, seconds)
  end
end

local steps = {}

-- The number of questions with a vector; the keys of the first that wait for one; their values.
function steps.view(limit)
  local keys, values = {}, {}
  if tonumber(limit) > 0 then
    keys = redis.call("ZRANGE", waiting, 0, limit - 1)
  end
  if #keys > 0 then
    values = redis.call("HMGET", heads, unpack(keys))
  end
  return {redis.call("VCARD", set), keys, values}
end

-- In place of an older answer, which is not found any more.
function steps.add(key, value, seconds, most)
  forget(key)
  local last = redis.call("ZRANGE", waiting, -1, -1, "WITHSCORES")
  redis.call("ZADD", waiting, (last[2] or 0) + 1, key)
  redis.call("HSET", heads, key, value)
  if redis.call("ZCARD", waiting) > tonumber(most) then
    forget(redis.call("ZRANGE", waiting, 0, 0)[1])
  end
  keep(heads, seconds + 0)
  keep(waiting, seconds + 0)
end

-- Only the answer that is there, not one that was.
function steps.attach(key, stamp, vector, effort, value, expires, now, seconds, most)
  local held = value_of(key)
  if not held or not is_stamped(held, stamp) then
    return
  end
  redis.call("VADD", set, "FP32", vector, key, "Q8", "EF", effort, "SETATTR", value)
  redis.call("ZADD", ends, expires, key)
  redis.call("HDEL", heads, key)
  redis.call("ZREM", waiting, key)
  for _, dead in ipairs(redis.call("ZRANGE", ends, "-inf", now, "BYSCORE", "LIMIT", 0, SWEPT)) do
    forget(dead)
  end
  if redis.call("ZCARD", ends) > tonumber(most) then
    forget(redis.call("ZRANGE", ends, 0, 0)[1])
  end
  keep(set, seconds + 0)
  keep(ends, seconds + 0)
end

-- Only the answer that is there. Where Redis has evicted the value, what is left of the question goes too.
function steps.drop(key, stamp)
  local value = value_of(key)
  if not value or is_stamped(value, stamp) then
    forget(key)
  end
end

-- The next cursor, 0 after the last; the keys of some questions under one of the keys, heads or ends; their values.
function steps.page(which, cursor, count)
  local keys, values = {}, {}
  local found
  if which == "heads" then
    found = redis.call("HSCAN", heads, cursor, "COUNT", count)
  else
    found = redis.call("ZSCAN", ends, cursor, "COUNT", count)
  end
  for at = 1, #found[2], 2 do
    local key = found[2][at]
    keys[#keys + 1] = key
    values[#keys] = which == "heads" and found[2][at + 1] or redis.call("VGETATTR", set, key)
  end
  return {found[1], keys, values}
end

return steps[ARGV[1]](unpack(ARGV, 2))
