#!/usr/bin/env bash
# One fault for real on a test instance of its own, with people who use it meanwhile: what keeps working, what is lost, for how long,
# against the promise; and the section of the manual that says what to do. Touches no server but its own: network, disk and folder
# are its own too, and gone however it ends (after kill -9 an empty folder in /tmp may stay). Most need root.
#
#     scripts/drill.sh --list            names them
#     scripts/drill.sh process-killed    one: 15 s for most; its account also goes to target/drills
#     scripts/drill.sh --short           all that take 15 s and can be made here
#     scripts/drill.sh --all             all of them, and one page: benches/results/drills.html and .md
#     scripts/drill.sh --help            all options
#
# Exit status 0 only if what was promised held. ONECODE_BIN names a server to drill; else this tree's is built.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=scripts/needs.sh
. "$root/scripts/needs.sh"
# Debian has these where only root looks.
PATH=$PATH:/usr/sbin:/sbin

may_install=yes
with_crowd=no
with_page=no
only_looks=no
for option in "$@"; do
    case $option in
        -h | --help)
            if have python3 >/dev/null; then
                exec python3 "$root/scripts/drill/drill.py" --help
            fi
            sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}"
            exit 0
            ;;
        --list) only_looks=yes ;;
        --no-install) may_install=no ;;
        --all) with_crowd=yes with_page=yes ;;
        ten-times-the-crowd) with_crowd=yes ;;
        fifteen-hours) with_page=yes ;;
    esac
done

chromium_path() {
    command -v chromium || command -v chromium-browser || command -v google-chrome
}

need "Python 3" python3 have python3
if [ $only_looks = yes ]; then
    install_missing "$may_install"
    exec python3 "$root/scripts/drill/drill.py" "$@"
fi
need "taskset, nsenter and unshare" util-linux have nsenter
need openssl openssl have openssl
need "libfaketime" faketime sh -c 'ls /usr/lib/*/faketime/libfaketimeMT.so.1'
if [ "$(id -u)" -eq 0 ]; then
    need "ip and tc" iproute2 have tc
    need nft nftables have nft
    need mkfs.ext4 e2fsprogs have mkfs.ext4
fi
if [ $with_page = yes ]; then
    need "Node.js 20 or later" nodejs version_at_least node 20
    need npm npm have npm
    chromium_package=chromium
    grep -qs '^ID=ubuntu' /etc/os-release && chromium_package=chromium-browser
    need Chromium "$chromium_package" chromium_path
fi
if [ -z "${ONECODE_BIN:-}" ] || [ $with_crowd = yes ]; then
    need_cargo
    need "a C compiler" "gcc libc6-dev make" have cc
fi
install_missing "$may_install"
# What is wrong with the options is said before anything is built.
python3 "$root/scripts/drill/drill.py" "$@" --check

if [ -z "${ONECODE_BIN:-}" ]; then
    echo "onecode: building the server" >&2
    if [ ! -e "$root/web/dist" ] && command -v npm >/dev/null; then
        "$root/scripts/build-web.sh" >&2
    fi
    (cd "$root" && cargo build --release --locked --quiet)
fi
if [ $with_crowd = yes ]; then
    echo "onecode: building benches/load" >&2
    (cd "$root/benches/load" && CARGO_TARGET_DIR=$root/target/bench cargo build --release --locked --quiet)
fi
if [ $with_page = yes ]; then
    (cd "$root/tests/browser" && npm ci --no-audit --no-fund --silent)
    CHROMIUM=$(chromium_path)
    export CHROMIUM
fi
exec python3 "$root/scripts/drill/drill.py" "$@"
