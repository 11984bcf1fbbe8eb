#!/usr/bin/env bash
# How many reads and how many writes this node carries, and what a gateway before it is to be told, as lines of configuration
# with the figures that they come from. Random residents; writes are of test residents of its own, which it removes again.
# Steps of seconds up to 30 times the expected peak; it stops by itself at the first that does not hold.
#
#     scripts/capacity.sh --peak 1000                  of a demo that it starts itself; two minutes at most once built
#     scripts/capacity.sh http://HOST:8080 --admin http://HOST:8081 --token-file FILE --sessions FILE --peak 1000
#     scripts/capacity.sh --help                       all options
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=scripts/needs.sh
. "$root/scripts/needs.sh"

may_install=yes
elsewhere=no
for option in "$@"; do
    case $option in
        -h | --help)
            if have python3 >/dev/null; then
                exec python3 "$root/scripts/bench/capacity.py" --help
            fi
            sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}"
            exit 0
            ;;
        --no-install) may_install=no ;;
        http://* | https://*) elsewhere=yes ;;
    esac
done

need_cargo
need "a C compiler" "gcc libc6-dev make" have cc
need "Python 3" python3 have python3
need taskset util-linux have taskset
install_missing "$may_install"
# What is wrong with the options, or with the node, is said before anything is built.
python3 "$root/scripts/bench/capacity.py" "$@" --check

echo "onecode: building benches/load" >&2
(cd "$root/benches/load" && CARGO_TARGET_DIR=$root/target/bench cargo build --release --locked --quiet)
if [ $elsewhere = no ]; then
    echo "onecode: building the server" >&2
    if [ ! -e "$root/web/dist" ] && command -v npm >/dev/null; then
        "$root/scripts/build-web.sh" >&2
    fi
    (cd "$root" && cargo build --release --locked --quiet)
fi
exec python3 "$root/scripts/bench/capacity.py" "$@"
