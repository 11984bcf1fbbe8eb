#!/usr/bin/env bash
# All tests, in the order in which they fail fastest. Installs what they need (see needs.sh).
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=scripts/needs.sh
. "$root/scripts/needs.sh"
cd "$root"

usage() {
    cat <<'USAGE'
usage: scripts/test.sh [--quick] [--no-install]

  --quick        format, clippy, unit and integration tests only: under 2 minutes once built
  --no-install   install nothing: name what is missing and exit 1
USAGE
}

quick=no
may_install=yes
for option in "$@"; do
    case $option in
        --quick) quick=yes ;;
        --no-install) may_install=no ;;
        -h | --help)
            usage
            exit 0
            ;;
        *)
            echo "onecode: test.sh has no option $option" >&2
            usage >&2
            exit 2
            ;;
    esac
done

target=${CARGO_TARGET_DIR:-$root/target}
# Where need_tool puts what Cargo installs.
PATH=$PATH:$target/tools/bin
scratch=$(mktemp -d)
server_pid=
# However this ends, Ctrl-C included: the server that was started here, and no other, is stopped.
stop() {
    if [ -n "$server_pid" ]; then
        kill "$server_pid" 2>/dev/null || true
        wait "$server_pid" 2>/dev/null || true
        server_pid=
    fi
}
trap 'stop; rm -rf "$scratch"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

step() {
    local name=$1 began=$SECONDS
    shift
    printf '\n== %s\n' "$name"
    "$@"
    printf '== %s: ok, %d s\n' "$name" "$((SECONDS - began))"
}

not_run=()
# What cannot be run here is said where it would have been, and once more at the end.
leave_out() {
    printf 'NOT RUN: %s: %s\n' "$1" "$2"
    not_run+=("$1")
}

# What is linked may be linked, and comes from where it should (deny.toml).
policy() {
    if ! have cargo-deny >/dev/null; then
        leave_out "licences, bans and sources" "cargo install --locked cargo-deny"
        return
    fi
    cargo deny --locked check licenses bans sources
    # The database is at github.com, which not every machine reaches.
    if cargo deny fetch db; then
        cargo deny --offline --locked check advisories
    else
        leave_out "advisories" "their database cannot be reached"
    fi
}

# A debug build as a package: installed, used, upgraded and removed in a clean Debian that systemd has booted.
package() {
    local reason
    if ! reason=$(python3 tests/package/run.py --check); then
        leave_out "package" "$reason"
        return
    fi
    if ! have cargo-deb >/dev/null || ! have cargo-cyclonedx >/dev/null; then
        leave_out "package" "scripts/package.sh --debug installs cargo-deb and cargo-cyclonedx"
        return
    fi
    scripts/package.sh --debug --no-install
    python3 tests/package/run.py "$target"/package/onecode_*.deb
}

# Rules and boards, by the programs that will read them.
dashboards() {
    local status=0
    python3 tests/dashboards/check.py "$target/debug/onecode" || status=$?
    if [ "$status" = 3 ]; then
        leave_out "dashboards" "no Prometheus here, and none to be had from Debian"
        return
    fi
    return "$status"
}

docs() {
    RUSTDOCFLAGS="-D warnings" cargo doc --no-deps --document-private-items --locked
}

# The tree as git would clone it, changes that are not committed included, has no web/dist. The dependencies are
# taken from the target folder of this tree, so only onecode is checked anew.
bare_clone() {
    local clone="$scratch/clone"
    mkdir "$clone"
    git ls-files -z --cached --others --exclude-standard --deduplicate |
        tar --create --null --files-from=- --ignore-failed-read | tar --extract --directory="$clone"
    [ ! -e "$clone/web/dist" ]
    (cd "$clone" && CARGO_TARGET_DIR="$target" cargo check --locked)
}

free_port() {
    python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

start_server() {
    local port admin
    port=$(free_port)
    admin=$(free_port)
    url=http://127.0.0.1:$port
    data=$scratch/data
    "$target/debug/onecode" serve --demo --residents 1000 --data "$data" --listen "127.0.0.1:$port" \
        --admin "127.0.0.1:$admin" >"$scratch/server.out" 2>&1 &
    server_pid=$!
    for _ in $(seq 300); do
        if curl --silent --fail --output /dev/null "$url/readyz"; then
            return
        fi
        kill -0 "$server_pid" 2>/dev/null || break
        sleep 0.1
    done
    echo "onecode: the server did not come up:" >&2
    cat "$scratch/server.out" >&2
    return 1
}

interop() {
    local venv="$target/interop-venv"
    [ -x "$venv/bin/python" ] || python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check --requirement tests/interop/requirements.txt
    "$venv/bin/python" tests/interop/check.py "$url"
    "$venv/bin/python" tests/interop/readability.py --masks "$target/tmp/interop/masks.ndjson" --codes 60
}

browser() {
    # The distributions' Node is 18; the browser tests want a newer one, which npm has as a package.
    local node=(node)
    if ! version_at_least node 20; then
        node=(npx --yes --package=node@22 -- node)
    fi
    (
        cd tests/browser
        npm ci --no-audit --no-fund --silent
        ONECODE_BIN="$target/debug/onecode" CHROMIUM="$(chromium_path)" "${node[@]}" --test
    )
}

chromium_path() {
    command -v chromium || command -v chromium-browser || command -v google-chrome
}

# The load script ends with 1 if one request failed.
load() {
    wrk -t1 -c8 -d3s -s scripts/wrk/refresh.lua "$url" -- "$data/sessions.txt"
}

# The floor, the peers, the load generator and the fuzzers are workspaces of their own, which nothing else looks at.
bench_workspaces() {
    local workspace
    (cd tests/fuzz && CARGO_TARGET_DIR=$target cargo check --locked --quiet)
    for workspace in floor peers load; do
        (
            cd "benches/$workspace"
            export CARGO_TARGET_DIR=$target/bench
            cargo fmt --check
            cargo clippy --all-targets --locked --quiet -- -D warnings
            cargo test --locked --quiet
        )
    done
}

# One small crowd over a real link; where the kernel lets us make none, that is said.
replay() {
    local reason workspace
    if ! reason=$(python3 scripts/replay/replay.py --check 2>&1); then
        echo "left out here: $reason"
        return
    fi
    for workspace in load peers; do
        (cd "benches/$workspace" && CARGO_TARGET_DIR=$root/target/bench cargo build --locked --quiet)
    done
    python3 scripts/replay/replay.py --profile debug --rate 100mbit --seconds 5 --base 2 --out "$scratch/replay"
    python3 scripts/replay/check.py "$scratch/replay"
}

# Small steps against a demo of its own: all of its test residents are gone again, and the limits are there.
capacity() {
    (cd benches/load && CARGO_TARGET_DIR=$root/target/bench cargo build --locked --quiet)
    python3 scripts/bench/capacity.py --profile debug --peak 5 --p99-ms 2000 --seconds 1 --residents 1000 >"$scratch/limits"
    grep "^limit_req_zone .*rate=[0-9]*r/s;  # 80%" "$scratch/limits"
}

# The short ones. What this host does not allow they name.
drills() {
    ONECODE_BIN="$target/debug/onecode" scripts/drill.sh --short --no-install --out "$scratch/drills"
    python3 scripts/drill/check.py "$scratch/drills" "$target/debug/onecode"
}

need_cargo
need git git have git
need "a C compiler" "gcc libc6-dev make" have cc
need curl "curl ca-certificates" have curl
# Debian has it where only root looks; a disk that is full is one of the tests' own.
PATH=$PATH:/usr/sbin
need mkfs.ext4 e2fsprogs have mkfs.ext4
if [ "$quick" = no ]; then
    need "Node.js 18 or later" nodejs version_at_least node 18
    need npm npm have npm
    need "Python with venv" "python3 python3-venv" python3 -c "import ensurepip, venv"
    # Ubuntu has the browser under another name, as a wrapper of its snap.
    chromium_package=chromium
    grep -qs '^ID=ubuntu' /etc/os-release && chromium_package=chromium-browser
    need Chromium "$chromium_package" chromium_path
    need "Chinese fonts" "fonts-noto-cjk fontconfig" sh -c 'fc-list :lang=zh-cn | grep -q .'
    # The manual's commands are run as they stand.
    need "ps and pgrep" procps have pgrep
    need openssl openssl have openssl
    need wrk wrk have wrk
    need valgrind valgrind have valgrind
    need nginx nginx-light have nginx
    need "ip and tc" iproute2 have tc
    need nft nftables have nft
    need openssl openssl have openssl
    need libfaketime faketime sh -c 'ls /usr/lib/*/faketime/libfaketimeMT.so.1'
fi
install_missing "$may_install"
if [ "$quick" = no ]; then
    require_node
fi

step "format" cargo fmt --all --check
step "host settings" python3 kernel-tuning/render.py --check
if [ "$quick" = no ]; then
    step "pages" scripts/build-web.sh
fi
step "clippy" cargo clippy --all-targets --locked -- -D warnings
if [ "$quick" = yes ]; then
    export ONECODE_TEST_QUICK=1
    step "unit and integration tests" cargo test --locked --lib --bins --tests
    exit
fi
step "docs" docs
step "unit, integration and documentation tests" cargo test --locked
step "a clone without pages builds" bare_clone
step "policy" policy
step "bench workspaces" bench_workspaces
step "instructions" scripts/bench/instructions.py
# No step, because what a step starts in its own name must outlive it: the next steps ask this server.
start_server
step "interop" interop
step "load" load
stop
step "browser" browser
step "replay" replay
step "capacity" capacity
step "drills" drills
step "dashboards" dashboards
step "package" package
printf '\n== all passed in %d s\n' "$SECONDS"
for name in "${not_run[@]}"; do
    printf '== NOT RUN: %s\n' "$name"
done
