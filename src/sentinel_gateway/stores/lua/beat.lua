-- Says that a node lives, and tells how many do.
--
-- KEYS     the nodes, by the time at which each is taken for dead
-- ARGV[1]  the node
-- ARGV[2]  milliseconds until then
--
-- Answers: how many live; 1 if this one was not among them.

local time = redis.call("TIME")
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local new = redis.call("ZADD", KEYS[1], now + ARGV[2], ARGV[1])
redis.call("ZREMRANGEBYSCORE", KEYS[1], "-inf", now)
redis.call("PEXPIRE", KEYS[1], ARGV[2])
return {redis.call("ZCARD", KEYS[1]), new}
