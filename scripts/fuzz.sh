#!/usr/bin/env bash
# Fuzzes each target for some minutes, with libFuzzer and coverage; what it finds stays below target/fuzz.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=scripts/needs.sh
. "$root/scripts/needs.sh"
cd "$root"

all=(head connection proxy session verify recovery)
usage() {
    cat <<USAGE
usage: scripts/fuzz.sh MINUTES [TARGET...]

Runs each target (${all[*]}) for so long, from its seeds in tests/fuzz/corpus and what
earlier runs have kept in target/fuzz/corpus. Ends with 1 at the first find and prints where the input is: copy it to
tests/fuzz/corpus/TARGET, where cargo test --test fuzz runs it for ever.
USAGE
}

case ${1:-} in
    -h | --help)
        usage
        exit 0
        ;;
    '' | *[!0-9]* | 0*)
        usage >&2
        exit 2
        ;;
esac
minutes=$1
shift
targets=("$@")
[ ${#targets[@]} -gt 0 ] || targets=("${all[@]}")
for target in "${targets[@]}"; do
    case " ${all[*]} " in
        *" $target "*) ;;
        *)
            echo "onecode: fuzz.sh has no target $target" >&2
            usage >&2
            exit 2
            ;;
    esac
done

# An input may take so long, and the process so much memory; the longest inputs are longer than any head.
input_s_max=20
memory_mb_max=2048
input_bytes_max=10240

need_cargo
need "a C++ compiler" "g++ libc6-dev" have c++
install_missing no

# The flags that cargo-fuzz passes. Stable Rust has no sanitizers; ours is safe Rust, whose assertions are checked.
coverage="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
-Cllvm-args=-sanitizer-coverage-trace-compares"
folder=${CARGO_TARGET_DIR:-$root/target}/fuzz
# With a target named, build scripts and macros are built without the flags.
host=$(rustc -vV | sed -n 's/^host: //p')
RUSTFLAGS=$coverage CARGO_TARGET_DIR=$folder cargo build --release --locked --quiet --target "$host" \
    --manifest-path tests/fuzz/Cargo.toml

summary=
for target in "${targets[@]}"; do
    kept=$folder/corpus/$target
    finds=$folder/finds/$target
    log=$folder/$target.log
    mkdir -p "$kept" "$finds"
    echo "== $target, $minutes min"
    if ! ONECODE_FUZZ_TARGET=$target "$folder/$host/release/fuzz" -max_total_time=$((minutes * 60)) \
        -timeout=$input_s_max -rss_limit_mb=$memory_mb_max -max_len=$input_bytes_max -artifact_prefix="$finds/" \
        -print_final_stats=1 "$kept" "tests/fuzz/corpus/$target" >"$log" 2>&1; then
        grep -E 'panicked at|ERROR: libFuzzer' -A 3 "$log" | head -n 20 >&2 || tail -n 20 "$log" >&2
        input=$(sed -n 's/.*Test unit written to //p' "$log" | tail -n 1)
        echo "onecode: $target fails; input: ${input:-none was written}, log: $log" >&2
        printf '%s' "$summary"
        exit 1
    fi
    executions=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
    covered=$(sed -n 's/.* cov: \([0-9]*\) .*/\1/p' "$log" | tail -n 1)
    inputs=$(find "$kept" -type f | wc -l)
    summary+="$target: $executions executions, $covered edges, $inputs inputs kept"$'\n'
done
printf '%s' "$summary"
