#!/usr/bin/env bash
# pysyncobj 0.3.17, Python 3.11, Linux. Importing PySyncObj replaces socket.inet_ntop for the whole process by a function
# that works on Windows only. Its sibling socket.inet_pton is replaced on Windows alone, as one would expect of both; the
# two assignments stand below one `if`, and only the first is indented under it.
#
# Seen: before the import, inet_ntop(AF_INET, 7f000001) is 127.0.0.1; after it, inet_ntop is pysyncobj.win_inet_pton's and
# raises TypeError for the same valid input, while inet_pton is still the standard library's.
#
# What follows: code that shares a process with PySyncObj (a migration from it, a benchmark beside it) formats addresses
# with ipaddress.ip_address(packed), which needs nothing of the module `socket`.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check pysyncobj==0.3.17
"$folder/venv/bin/python" - <<'PYTHON'
import ipaddress
import socket
import sys

packed = bytes([127, 0, 0, 1])
before = socket.inet_ntop(socket.AF_INET, packed)

import pysyncobj  # noqa: E402, F401

try:
    after = socket.inet_ntop(socket.AF_INET, packed)
except TypeError as error:
    after = f"TypeError: {error}"
print(f"before the import: {before}")
print(f"after the import:  {after}")
print(f"inet_ntop is {socket.inet_ntop.__module__}'s, inet_pton is {socket.inet_pton.__module__}'s")
print(f"ipaddress:         {ipaddress.ip_address(packed)}")
same = (
    before == "127.0.0.1"
    and after.startswith("TypeError")
    and socket.inet_ntop.__module__ == "pysyncobj.win_inet_pton"
    and socket.inet_pton.__module__ == "_socket"
    and str(ipaddress.ip_address(packed)) == "127.0.0.1"
)
sys.exit(0 if same else "the behaviour has changed")
PYTHON
