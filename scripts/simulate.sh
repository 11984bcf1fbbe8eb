#!/bin/sh
# Runs many seeded simulations of shards, queues and journal; a failing seed is printed and can be run alone.
# Usage: scripts/simulate.sh [SEEDS]   (25,000 unless said otherwise)
set -eu
seeds=${1:-25000}
case $seeds in
-h | --help) sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "$0"; exit 0 ;;
'' | *[!0-9]*) echo "usage: scripts/simulate.sh [SEEDS]" >&2; exit 2 ;;
esac
cd "$(dirname "$0")/.."
ONECODE_TEST_SEEDS=$seeds exec cargo test --release --test promises -- \
    no_acknowledged_write_is_missing_from_the_disk_whatever_happens --exact --nocapture
