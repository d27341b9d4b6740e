-- Takes from the buckets of one request and draws on its budgets, all or nothing, or books what is known afterwards. The sums are
-- those of core/limits.py and core/budgets.py.
--
-- KEYS     the buckets, then the accounts, each once, all of one tenant and so in one hash slot
-- ARGV[1]  "take", or "settle": whatever the limits say
-- ARGV[2]  the name of the places in flight that are taken, given back, or (taken again) kept for longer
-- ARGV[3]  milliseconds after which a place that nobody gave back is free again
-- ARGV[4]  how many of the keys are buckets
-- ARGV[5]  the node, by which its part of each account is called
-- then five numbers a bucket, the first four in parts: what comes back each millisecond (0: places in flight), the capacity, the
-- cost, what is spent as far as the caller knows, and the birth of the bucket that it knows
-- then nine numbers an account: core/budgets.py's `Wish` in its order, with 1 or 0 for `known`, and when the account may go, in
-- milliseconds
--
-- Answers: 1 if it was taken, else 0; the time; what was spent of each bucket before, in parts; the birth of each, 0 for none;
-- then for each account whether it fits, what the others have settled and drawn, what the node has drawn, and whether nobody is
-- to draw ahead.
--
-- A bucket is "spent at rate born", kept as long as anybody may know of something that is spent of it. So one that is absent, or
-- was born since the caller has last seen it, was lost: what the caller knows then counts, if it is more. Places in flight are a
-- sorted set by the time at which each ends by itself, so those of a node that died come back; a caller knows its own at least.
-- An account is a hash: each node's part by its name, "turn settled drawn seen", until when nobody draws more, and
-- until when nobody draws ahead.
-- All numbers stay below 2^53, so they are exact: nobody owes more than DEEPEST times the whole limit.

local UNIT = 60000
local DEEPEST = 100
local EACH = 5
local EACH_ACCOUNT = 9
local FIRST = 5
local CALM = 15000
local TIGHT = 5000
local LEASE = 30000
local time = redis.call("TIME")
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local taking, holder, lease = ARGV[1] == "take", ARGV[2], tonumber(ARGV[3])
local buckets_asked, node = tonumber(ARGV[4]), ARGV[5]

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

local function numbers(first, count)
  local read = {unpack(ARGV, first, first + count - 1)}
  for i, number in ipairs(read) do
    read[i] = tonumber(number)
  end
  return unpack(read, 1, count)
end

local function read_account(key)
  local fields, own, settled, drawn = redis.call("HGETALL", key), nil, 0, 0
  local times = {calm = 0, tight = 0}
  for i = 1, #fields, 2 do
    if times[fields[i]] then
      times[fields[i]] = tonumber(fields[i + 1])
    else
      local part = {}
      for number in string.gmatch(fields[i + 1], "%d+") do
        part[#part + 1] = tonumber(number)
      end
      if fields[i] == node then
        own = part
      else
        settled = settled + part[2]
        drawn = drawn + (now - part[4] < LEASE and part[3] or part[2])
      end
    end
  end
  return own, times.calm, times.tight, settled, drawn, #fields == 0
end

-- As `draw` in core/budgets.py: whether it fits, and the part as it is then.
local function draw(account)
  local limit, cost, turn, own_settled, wanted, known_drawn, nodes, known = unpack(account.wish)
  local own, calm, tight, settled, drawn, new = read_account(account.key)
  if own == nil then
    if new and known == 1 then
      calm = now + CALM
    end
    own = {0, own_settled, known_drawn, now}
  end
  local overtaken = own[1] > turn
  own = {math.max(own[1], turn), math.max(own[2], own_settled), math.max(own[3], own_settled), now}
  account.settled, account.drawn, account.calm, account.tight, account.own = settled, drawn, calm, tight, own
  if cost == 0 and taking then
    account.fits = settled + own[2] < limit
    return
  end
  local room = limit - drawn - wanted
  account.fits = room >= 0 and (wanted <= own[3] or (now >= calm and not overtaken))
  if not overtaken and (account.fits or not taking) then
    local more = math.max(wanted, math.min(own[3], known_drawn))
    if now >= calm and now >= tight and nodes > 0 and room > 0 then
      more = math.max(more, wanted + math.floor(room / (2 * nodes)))
    end
    account.after = {turn, own[2], more, now}
  elseif taking and not account.fits then
    account.tight = now + TIGHT
  end
end

local function keep_account(account, part)
  redis.call("HSET", account.key, node, string.format("%.0f %.0f %.0f %.0f", unpack(part)))
  for _, name in ipairs({"calm", "tight"}) do
    if account[name] > now then
      redis.call("HSET", account.key, name, string.format("%.0f", account[name]))
    end
  end
  redis.call("PEXPIREAT", account.key, account.ends)
end

local taken, buckets, accounts = 1, {}, {}
for i = 1, buckets_asked do
  local key = KEYS[i]
  local rate, capacity, cost, known, seen = numbers(FIRST + EACH * (i - 1) + 1, EACH)
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
for i = 1, #KEYS - buckets_asked do
  local wish = {numbers(FIRST + EACH * buckets_asked + EACH_ACCOUNT * (i - 1) + 1, EACH_ACCOUNT)}
  local account = {key = KEYS[buckets_asked + i], wish = wish, ends = wish[EACH_ACCOUNT]}
  draw(account)
  if taking and not account.fits then
    taken = 0
  end
  accounts[i] = account
end

local answer = {taken, now}
for i, bucket in ipairs(buckets) do
  local cost = taken * bucket.cost
  if bucket.rate == 0 and cost ~= 0 then
    keep_place(bucket.key, cost)
  elseif bucket.rate > 0 and (cost ~= 0 or bucket.lost) then
    bucket.born = keep_bucket(bucket.key, bucket.rate, bucket.capacity, bucket.spent + cost, bucket.born)
  end
  answer[i + 2], answer[i + 2 + #buckets] = bucket.spent, bucket.born
end
for _, account in ipairs(accounts) do
  local part = account.own
  if taken == 1 and account.after then
    part = account.after
  end
  if not taking or account.wish[2] ~= 0 then
    keep_account(account, part)
  end
  for _, number in ipairs({account.fits and 1 or 0, account.settled, account.drawn, part[3], account.tight > now and 1 or 0}) do
    answer[#answer + 1] = number
  end
end
return answer
