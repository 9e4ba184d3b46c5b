#!/bin/sh
# need.sh PACKAGE TEST [PACKAGE TEST]...
# Installs the Debian packages whose TEST (a shell command) fails; without the right to, says which they are.
set -eu

missing=
while [ $# -gt 0 ]; do
    sh -c "$2" >/dev/null 2>&1 || missing="$missing $1"
    shift 2
done
[ -n "$missing" ] || exit 0

if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
    echo "missing:$missing" >&2
    echo "install them, on Debian: sudo apt-get install$missing" >&2
    exit 1
fi
echo "installing$missing"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
export DEBIAN_FRONTEND=noninteractive
# shellcheck disable=SC2086  # a list of names
if ! { apt-get update -q && apt-get install -q -y --no-install-recommends $missing; } >"$log" 2>&1; then
    cat "$log" >&2
    exit 1
fi
