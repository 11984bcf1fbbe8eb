#!/usr/bin/env bash
# Flame graphs of the server under load, written to flamegraphs/CASE.svg, and what changed since a release, written to
# flamegraphs/CASE-diff.svg. flamegraphs/README.md says how to read them.
#
#     scripts/flamegraph.sh                        warm, cold, churn and static
#     scripts/flamegraph.sh warm cold              some of them
#     scripts/flamegraph.sh --base v0.1.0 warm     differential against that revision (the last tag if there is one)
#     scripts/flamegraph.sh --no-base warm         none
#
# perf samples the CPU clock, since virtual machines hide the counters, at 999 Hz, so that it does not march in step
# with the kernel's tick; stacks are walked by frame pointers, for which the server is built anew in a folder of its own.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=scripts/needs.sh
. "$root/scripts/needs.sh"
cd "$root"

inferno_version=0.12.8
seconds=10
residents=${RESIDENTS:-2000000}
port=18090
base=$(git describe --tags --abbrev=0 2>/dev/null || true)
out=$root/flamegraphs
cases=()
while [ $# -gt 0 ]; do
    case $1 in
        --base)
            base=${2:?--base wants a revision}
            shift
            ;;
        --no-base) base= ;;
        --out)
            out=$(cd "${2:?--out wants a folder}" && pwd)
            shift
            ;;
        --seconds)
            seconds=${2:?--seconds wants a number}
            shift
            ;;
        -h | --help)
            sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}"
            exit 0
            ;;
        warm | cold | churn | static | mixed) cases+=("$1") ;;
        *)
            echo "onecode: flamegraph.sh has no option or case $1" >&2
            exit 2
            ;;
    esac
    shift
done
[ ${#cases[@]} -gt 0 ] || cases=(warm cold churn static)

need_cargo
need perf linux-perf have perf
need wrk wrk have wrk
need taskset util-linux have taskset
install_missing yes
tools=$root/target/tools
if [ ! -x "$tools/bin/inferno-flamegraph" ]; then
    cargo install --quiet --root "$tools" --target-dir "$tools/build" --version "$inferno_version" --locked \
        --no-default-features --features cli inferno
fi

scratch=$(mktemp -d)
server_pid=
worktree=
stop_server() {
    if [ -n "$server_pid" ]; then
        kill "$server_pid" 2>/dev/null || true
        wait "$server_pid" 2>/dev/null || true
        server_pid=
    fi
}
clean() {
    stop_server
    [ -z "$worktree" ] || git worktree remove --force "$worktree" 2>/dev/null || true
    rm -rf "$scratch"
}
trap clean EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# build FOLDER TARGET: the server of a tree, with frame pointers.
build() {
    (cd "$1" && RUSTFLAGS="-C force-frame-pointers=yes" cargo build --release --locked --quiet --target-dir "$2")
}

# record BINARY FOLDED: one case's stacks, of the shard's thread and the kernel below it.
record() {
    local binary=$1 folded=$2 case=$3 data=$scratch/data lua=$3 url=http://127.0.0.1:$port argument
    rm -rf "$data"
    "$binary" serve --demo --residents "$residents" --shards 1 --cpus 0 --data "$data" \
        --listen "127.0.0.1:$port" --admin "127.0.0.1:$((port + 1))" >"$scratch/server.out" 2>&1 &
    server_pid=$!
    for _ in $(seq 1200); do
        if (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
            break
        fi
        kill -0 "$server_pid" 2>/dev/null || { cat "$scratch/server.out" >&2; return 1; }
        sleep 0.1
    done
    argument=$data/sessions.txt
    if [ "$case" = static ]; then
        url=$url/
        argument=gzip
    fi
    if [ "$case" = warm ] || [ "$case" = churn ]; then
        taskset -c 1 wrk -t1 -c64 -d1s -s "scripts/wrk/$lua.lua" "$url" -- "$argument" >/dev/null
    fi
    taskset -c 1 wrk -t1 -c64 "-d$((seconds + 1))s" -s "scripts/wrk/$lua.lua" "$url" -- "$argument" >"$scratch/wrk.out" &
    local wrk_pid=$!
    perf record --quiet --event cpu-clock --freq 999 --call-graph fp --pid "$server_pid" --output "$scratch/perf.data" \
        -- sleep "$seconds"
    wait "$wrk_pid" || { cat "$scratch/wrk.out" >&2; return 1; }
    stop_server
    perf script --input "$scratch/perf.data" 2>/dev/null |
        "$tools/bin/inferno-collapse-perf" >"$folded" 2>"$scratch/collapse.err"
    [ -s "$folded" ] || { cat "$scratch/collapse.err" >&2; return 1; }
}

echo "onecode: building with frame pointers" >&2
build "$root" "$root/target/flamegraph"
if [ -n "$base" ]; then
    echo "onecode: building $base with frame pointers" >&2
    worktree=$scratch/base
    git worktree add --quiet --detach "$worktree" "$base"
    [ ! -d web/dist ] || cp -r web/dist "$worktree/web/dist"
    build "$worktree" "$root/target/flamegraph-base"
fi
subtitle="$(git describe --always --dirty), one shard, wrk with 64 connections"
for case in "${cases[@]}"; do
    echo "onecode: $case" >&2
    record "$root/target/flamegraph/release/onecode" "$scratch/$case.folded" "$case"
    "$tools/bin/inferno-flamegraph" --title "onecode, $case" --subtitle "$subtitle" --hash \
        "$scratch/$case.folded" >"$out/$case.svg"
    if [ -n "$base" ]; then
        record "$root/target/flamegraph-base/release/onecode" "$scratch/$case-base.folded" "$case"
        "$tools/bin/inferno-diff-folded" --normalize "$scratch/$case-base.folded" "$scratch/$case.folded" |
            "$tools/bin/inferno-flamegraph" --title "onecode, $case: change since $base" --subtitle "$subtitle" \
                >"$out/$case-diff.svg"
    fi
    echo "onecode: written $out/$case.svg" >&2
done
