#!/usr/bin/env bash
# Prints the manual into one PDF per language: scripts/manual-pdf.sh [FOLDER], by default target/manual.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

case ${1-} in
-h | --help)
    sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "$0"
    exit 0
    ;;
-*)
    echo "manual-pdf: no option $1 is known; --help says what it does" >&2
    exit 2
    ;;
esac

chromium=${CHROMIUM:-$(command -v chromium || command -v chromium-browser || command -v google-chrome)} || {
    echo "manual-pdf: Chromium is missing (Debian: apt install chromium fonts-noto-cjk)" >&2
    exit 1
}
out=${1:-${CARGO_TARGET_DIR:-$root/target}/manual}
mkdir -p "$out"
"$root/scripts/build-web.sh" >/dev/null
for language in zh-CN en; do
    pdf=$out/onecode-manual-$language.pdf
    rm -f "$pdf"
    "$chromium" --headless=new --no-sandbox --disable-gpu --no-first-run --no-pdf-header-footer \
        --print-to-pdf="$pdf" "file://$root/web/dist/manual/$language.html" 2>/dev/null
    [ -s "$pdf" ] || {
        echo "manual-pdf: $chromium has written no $pdf" >&2
        exit 1
    }
    echo "$pdf"
done
