#!/bin/sh
# What a caller may wish, header by header. Each line shows what the answer says of the cache.
set -eu
gateway=${GATEWAY:-http://127.0.0.1:8080}
model=${MODEL:-demo}

ask() {
  printf '%-36s ' "${1:-no header}"
  curl -sS -D - -o /dev/null "$gateway/v1/chat/completions" \
    -H "Authorization: Bearer ${KEY:-unused}" -H 'Content-Type: application/json' ${1:+-H "$1"} \
    -d "{\"model\": \"$model\", \"messages\": [{\"role\": \"user\", \"content\": \"Which river is the longest?\"}]}" |
    tr -d '\r' | awk '/^HTTP/ {status = $2} /^x-cache:/ {cache = $2} /^x-cache-explain:/ {print; next} END {print status, cache ? cache : "-"}'
}

ask 'Cache-Control: only-if-cached'   # 504: nothing is stored yet, and no provider is asked
ask 'Cache-Control: no-store'         # a miss that is not kept
ask 'x-cache-ttl: 60'                 # a miss that is kept for a minute
ask ''                                # exact
ask 'Cache-Control: no-cache'         # the provider is asked, its answer takes the place of the stored one
ask 'x-bypass-cache: true'            # neither read nor written
ask 'x-cache-namespace: test'         # a cache of its own: a miss
ask 'x-cache-explain: true'           # why it was a hit
