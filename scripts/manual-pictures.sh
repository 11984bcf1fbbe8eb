#!/usr/bin/env bash
# Takes the manual's pictures again, of the pages as they are now, into manual/pictures.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

case ${1-} in
'') ;;
-h | --help)
    sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "$0"
    exit 0
    ;;
*)
    echo "manual-pictures: no argument $1 is known; --help says what it does" >&2
    exit 2
    ;;
esac

chromium=${CHROMIUM:-$(command -v chromium || command -v chromium-browser || command -v google-chrome)} || {
    echo "manual-pictures: Chromium is missing (Debian: apt install chromium fonts-noto-cjk)" >&2
    exit 1
}
"$root/scripts/build-web.sh" >/dev/null
cd "$root/tests/browser"
[ -d node_modules ] || npm ci --no-audit --no-fund --silent
CHROMIUM=$chromium node pictures.mjs
"$root/scripts/build-web.sh" >/dev/null
