#!/bin/sh
# A miss, an exact hit, a semantic hit: the same question, again, and in other words. Then what that saved.
set -eu
gateway=${GATEWAY:-http://127.0.0.1:8080}
model=${MODEL:-demo}

ask() {
  printf '%s\n' "$1"
  curl -sS -D - -o /dev/null "$gateway/v1/chat/completions" \
    -H "Authorization: Bearer ${KEY:-unused}" -H 'Content-Type: application/json' \
    -d "{\"model\": \"$model\", \"messages\": [{\"role\": \"user\", \"content\": \"$1\"}]}" |
    tr -d '\r' | grep -E '^(x-cache|x-cache-similarity|x-sentinel-saved-usd):'
}

ask 'How do I reset my password?'
ask 'How do I reset my password?'
ask 'How can I reset my password?'

curl -sS "$gateway/v1/metrics" -H "Authorization: Bearer ${KEY:-unused}"
echo
