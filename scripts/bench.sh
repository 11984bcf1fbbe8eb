#!/usr/bin/env bash
# Builds the server, the floor, the peers and the load generator, and measures them beside each other; for a server
# elsewhere the load generator alone. See benches/README.md for what is measured and how to read it.
#
#     scripts/bench.sh                 about half an hour; writes benches/results
#     scripts/bench.sh --quick         3 minutes at most once built; writes target/bench/quick
#     scripts/bench.sh --target http://HOST:8080 --admin http://HOST:8081 --token-file FILE --sessions FILE
#     scripts/bench.sh --help          all options
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=scripts/needs.sh
. "$root/scripts/needs.sh"

may_install=yes
elsewhere=no
options=()
for option in "$@"; do
    case $option in
        -h | --help)
            if have python3 >/dev/null; then
                exec python3 "$root/scripts/bench/main.py" --help
            fi
            sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}"
            exit 0
            ;;
        --no-install) may_install=no ;;
        --target | --target=*)
            elsewhere=yes
            options+=("$option")
            ;;
        *) options+=("$option") ;;
    esac
done
# Wrong options are refused before anything is installed or built; without Python, before anything is built.
check() { python3 "$root/scripts/bench/main.py" ${options[@]+"${options[@]}"} --check; }
if have python3 >/dev/null; then
    check
fi

need_cargo
need "a C compiler" "gcc libc6-dev make" have cc
need wrk wrk have wrk
need "Python 3" python3 have python3
if [ $elsewhere = no ]; then
    need nginx nginx-light have /usr/sbin/nginx
    need taskset util-linux have taskset
    need valgrind valgrind have valgrind
fi
had_python=$(have python3 || true)
install_missing "$may_install"
[ -n "$had_python" ] || check
# Debian has nginx where only root looks.
PATH=$PATH:/usr/sbin

build() {
    echo "onecode: building benches/$1" >&2
    (cd "$root/benches/$1" && CARGO_TARGET_DIR=$root/target/bench cargo build --release --locked --quiet)
}
build load
if [ $elsewhere = no ]; then
    build floor
    build peers
    echo "onecode: building the server" >&2
    if [ ! -e "$root/web/dist" ] && command -v npm >/dev/null; then
        "$root/scripts/build-web.sh" >&2
    fi
    (cd "$root" && cargo build --release --locked --quiet)
    (cd "$root" && cargo bench --locked --quiet --bench instructions --bench qr --no-run)
fi
exec python3 "$root/scripts/bench/main.py" ${options[@]+"${options[@]}"}
