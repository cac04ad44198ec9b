#!/usr/bin/env bash
# The servers that `make bench` compares with and that no Python package brings: etcd and Redis, from Debian's packages.
# Without them, or without the right to install, the benchmark says what it skips and goes on.
set -euo pipefail

missing=()
command -v etcd >/dev/null || missing+=(etcd-server)
command -v redis-server >/dev/null || missing+=(redis-server)
((${#missing[@]})) || exit 0

if ! command -v apt-get >/dev/null || ((EUID)); then
    echo "not installed, so skipped: ${missing[*]}; on Debian, as root: apt-get install ${missing[*]}" >&2
    exit 0
fi
# policy-rc.d: the benchmark starts its own; nothing here is to listen on the default ports.
policy=/usr/sbin/policy-rc.d
if [[ ! -e $policy ]]; then
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod +x "$policy"
    trap 'rm -f "$policy"' EXIT
fi
apt-get update -qq && apt-get install -qq --yes --no-install-recommends "${missing[@]}" ||
    echo "could not be installed, so skipped: ${missing[*]}" >&2
