-- Moves scores of providers (core/health.py), for all nodes in one step.
-- KEYS[1]: the sorted set of scores, by provider.
-- ARGV: for each provider its name, the share of its score that is left, and the score towards which the rest moves.
-- Answers the new scores, as text.
local scores = {}
for i = 1, #ARGV, 3 do
  local score = tonumber(redis.call("ZSCORE", KEYS[1], ARGV[i]) or "100")
  if not (score >= 0 and score <= 100) then  -- others have put it there: from infinity no call would ever move it
    score = 100
  end
  local kept = tonumber(ARGV[i + 1])
  score = kept * score + (1 - kept) * tonumber(ARGV[i + 2])
  local text = string.format("%.17g", score)
  redis.call("ZADD", KEYS[1], text, ARGV[i])
  scores[#scores + 1] = text
end
return scores
