#!/usr/bin/env bash
# From a fresh clone to a running demo: installs what is missing, builds pages and server, starts `onecode serve --demo`.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=scripts/needs.sh
. "$root/scripts/needs.sh"

usage() {
    cat <<'USAGE'
usage: scripts/run.sh [--no-install] [--help] [-- ARGUMENTS]

Sets up a Debian 12 or Ubuntu 24.04 with a Rust toolchain, builds onecode and starts the demo on http://127.0.0.1:8080.

  --no-install   install nothing: name what is missing and exit 1
  -- ARGUMENTS   passed on to `onecode serve --demo`, for example: -- --residents 1000 --listen 127.0.0.1:9000
USAGE
}

may_install=yes
while [ $# -gt 0 ]; do
    case $1 in
        --no-install) may_install=no ;;
        -h | --help)
            usage
            exit 0
            ;;
        --)
            shift
            break
            ;;
        *)
            echo "onecode: run.sh has no option $1" >&2
            usage >&2
            exit 2
            ;;
    esac
    shift
done

need_cargo
need git git have git
need curl "curl ca-certificates" have curl
need "a C compiler" "gcc libc6-dev make" have cc
need "Node.js 18 or later" nodejs version_at_least node 18
need npm npm have npm
install_missing "$may_install"
require_node

# Whoever starts the server from a folder means paths in ARGUMENTS from there, so only the builds change folder.
(cd "$root" && scripts/build-web.sh && cargo build --release --locked) >&2
exec "${CARGO_TARGET_DIR:-$root/target}/release/onecode" serve --demo "$@"
