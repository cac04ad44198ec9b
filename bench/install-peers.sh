#!/usr/bin/env bash
# The servers that `make bench` compares with and that no Python package brings: etcd and Redis, from Debian's packages.
# Without them, or without the right to install, the benchmark says what it skips and goes on.
set -euo pipefail

missing=()
command -v etcd >/dev/null || missing+=(etcd-server)
command -v redis-server >/dev/null || missing+=(redis-server)
((${#missing[@]})) || exit 0

# None of their services starts: the benchmark starts its own, and nothing is to listen on the default ports.
"$(dirname "$0")/../.ci/debian" "${missing[@]}" || echo "not installed, so skipped: ${missing[*]}" >&2
