#!/bin/sh
# Builds the pages into web/dist, which the next cargo build embeds. From any folder, as often as wanted.
set -eu

case ${1-} in
'') ;;
-h | --help)
    sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "$0"
    exit 0
    ;;
*)
    echo "build-web: no argument $1 is known; --help says what it does" >&2
    exit 2
    ;;
esac

web=$(CDPATH= cd -- "$(dirname -- "$0")/../web" && pwd)

fail() {
    echo "build-web: $1" >&2
    exit 1
}

command -v node >/dev/null 2>&1 ||
    fail "node is missing; install Node 18 or later (Debian, Ubuntu: apt install nodejs npm)"
major=$(node -p 'process.versions.node.split(".")[0]')
[ "$major" -ge 18 ] || fail "node $(node --version) is too old; install Node 18 or later"

cd "$web"
# npm writes its own lock file into node_modules when it is done: newer than ours means that nothing changed since.
installed=node_modules/.package-lock.json
if [ ! -e "$installed" ] || [ package-lock.json -nt "$installed" ] || [ package.json -nt "$installed" ]; then
    command -v npm >/dev/null 2>&1 || fail "npm is missing (Debian, Ubuntu: apt install npm)"
    npm ci --no-audit --no-fund --loglevel=error >&2 || fail "npm ci failed in web/: is the package registry reachable?"
fi
exec node build.mjs
