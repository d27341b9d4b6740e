-- One upstream call for all nodes: who makes it, and what it has brought.
--
-- KEYS[1]  the claim, "node:flight" while it is at it; it lapses when that node dies
-- KEYS[2]  what was brought, for those who wait; both in one hash slot
-- ARGV[1]  "claim", "renew", "land" or "release"
-- ARGV[2]  the node: a name that no other has
-- ARGV[3]  its flight: a number, the greater the later it set out
-- claim    ARGV[4]  milliseconds of a claim   ARGV[5]  milliseconds for which what was brought is kept
--          ARGV[6]  milliseconds for which it answers the one who asks now
-- renew    ARGV[4]  milliseconds of a claim
-- land     ARGV[4]  what was brought          ARGV[5]  milliseconds for which it is kept
--
-- Answers to a claim: what was brought; else 1 if the claim is this flight's now, 0 while it is another's. To the others: 1 if
-- the claim was this flight's.

local claim, brought, what, node, flight = KEYS[1], KEYS[2], ARGV[1], ARGV[2], ARGV[3]
local mine = node .. ":" .. flight

if what == "claim" then
  local kept, answers = tonumber(ARGV[5]), tonumber(ARGV[6])
  if redis.call("PTTL", brought) > kept - answers then
    return redis.call("GET", brought)
  end
  local held = redis.call("GET", claim)
  if held then
    -- The flight's own: the answer to its claim may have been lost. An earlier one's of its node: nobody boards that any more.
    local whose, which = string.match(held, "^(.*):(%d+)$")
    if whose ~= node or tonumber(which) > tonumber(flight) then
      return 0
    end
  end
  redis.call("SET", claim, mine, "PX", ARGV[4])
  return 1
end

if redis.call("GET", claim) ~= mine then
  return 0
end
if what == "renew" then
  redis.call("PEXPIRE", claim, ARGV[4])
else
  redis.call("DEL", claim)
  if what == "land" then
    redis.call("SET", brought, ARGV[4], "PX", ARGV[5])
  end
end
return 1
