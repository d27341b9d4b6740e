#!/usr/bin/env bash
# Install the Debian packages that tests need, and start none of the services that come with them. Usage: scripts/test_deps.sh PACKAGE...
set -euo pipefail

missing=()
for package in "$@"; do
    if [ "$(dpkg-query --show --showformat='${db:Status-Status}' "$package" 2>/dev/null)" != installed ]; then
        missing+=("$package")
    fi
done
if [ "${#missing[@]}" -eq 0 ]; then
    echo "Installed: $*."
    exit 0
fi
if ! command -v apt-get >/dev/null; then
    echo "This machine has no apt-get: install by hand what the suite needs of ${missing[*]}." >&2
    exit 1
fi
if [ "$(id -u)" -ne 0 ]; then
    echo "Only root may install ${missing[*]}: say 'sudo make test-deps'." >&2
    exit 1
fi

# Debian asks this file whether a service may be started; 101 means no.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    trap 'rm -f "$policy"' EXIT
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod +x "$policy"
fi
apt-get update -qq
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}"
