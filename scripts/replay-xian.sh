#!/usr/bin/env bash
# The day on which a city's health code fell, again and here: one crowd that grows tenfold within a minute, through one line, to
# the old design, to an informed one and to onecode. Two network namespaces without a name, joined by a link that tc shapes: needs
# root, and the kernel removes them however this ends. See benches/README.md for what is measured and how to read it.
#
#     scripts/replay-xian.sh                  a quarter of an hour once built; writes replay.* to benches/results
#     scripts/replay-xian.sh --rate 100mbit --seconds 30 --out target/replay
#     scripts/replay-xian.sh --only maxima    how much each can carry, as a table; 8 minutes
#     scripts/replay-xian.sh --help           all options
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=scripts/needs.sh
. "$root/scripts/needs.sh"
# Debian has these where only root looks.
PATH=$PATH:/usr/sbin:/sbin

may_install=yes
for option in "$@"; do
    case $option in
        -h | --help)
            if have python3 >/dev/null; then
                exec python3 "$root/scripts/replay/replay.py" --help
            fi
            sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}"
            exit 0
            ;;
        --no-install) may_install=no ;;
    esac
done

need_cargo
need "a C compiler" "gcc libc6-dev make" have cc
need "Python 3" python3 have python3
need nginx nginx-light have nginx
need "ip and tc" iproute2 have tc
need "unshare and taskset" util-linux have unshare
need openssl openssl have openssl
install_missing "$may_install"
# What cannot be done here is said before anything is built.
python3 "$root/scripts/replay/replay.py" "$@" --check

build() {
    echo "onecode: building benches/$1" >&2
    (cd "$root/benches/$1" && CARGO_TARGET_DIR=$root/target/bench cargo build --release --locked --quiet)
}
build load
build peers
echo "onecode: building the server" >&2
if [ ! -e "$root/web/dist" ] && command -v npm >/dev/null; then
    "$root/scripts/build-web.sh" >&2
fi
(cd "$root" && cargo build --release --locked --quiet)
exec python3 "$root/scripts/replay/replay.py" "$@"
