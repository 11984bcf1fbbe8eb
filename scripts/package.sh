#!/usr/bin/env bash
# Makes the Debian package and the tarball, each with a list of all that is in the binary (CycloneDX).
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=scripts/needs.sh
. "$root/scripts/needs.sh"
cd "$root"

usage() {
    cat <<'USAGE'
usage: scripts/package.sh [--debug] [--no-install]

  --debug        package target/debug/onecode, for trying the package itself
  --no-install   install nothing: name what is missing and exit 1

Writes target/package/onecode_VERSION_amd64.deb and target/package/onecode-VERSION-x86_64-linux.tar.gz.
USAGE
}

profile=release
may_install=yes
for option in "$@"; do
    case $option in
        --debug) profile=debug ;;
        --no-install) may_install=no ;;
        -h | --help)
            usage
            exit 0
            ;;
        *)
            echo "onecode: package.sh has no option $option" >&2
            usage >&2
            exit 2
            ;;
    esac
done

need_cargo
need "a C compiler" "gcc libc6-dev make" have cc
need dpkg-deb dpkg have dpkg-deb
need dpkg-shlibdeps dpkg-dev have dpkg-shlibdeps
if [ "$profile" = release ]; then
    need "Node.js 18 or later" nodejs version_at_least node 18
    need npm npm have npm
fi
install_missing "$may_install"
need_tool cargo-deb 3.8.0 "$may_install"
need_tool cargo-cyclonedx 0.5.9 "$may_install"

target=${CARGO_TARGET_DIR:-$root/target}
out=$target/package
rm -rf "$out"
mkdir -p "$out"
flags=(--locked)
if [ "$profile" = release ]; then
    require_node
    scripts/build-web.sh
    flags+=(--release)
fi
cargo build "${flags[@]}"
cargo run --quiet --locked --example shell -- "$out"
# What no file says is left to the default: nothing of this machine is in the list.
cargo cyclonedx --quiet --format json --spec-version 1.5 --override-filename onecode.cdx
mv onecode.cdx.json "$out/"

# Symbols for perf and for a backtrace from the field are in the tarball's binary.
deb_flags=(--no-build --locked --strip --output "$out")
if [ "$profile" = debug ]; then
    deb_flags+=(--profile dev --fast)
fi
cargo deb "${deb_flags[@]}"

version=$(cargo pkgid | sed 's,.*[#@],,')
name=onecode-$version-x86_64-linux
mkdir "$out/$name"
cp "$target/$profile/onecode" README.md CHANGELOG.md LICENSE-APACHE LICENSE-MIT "$out/onecode.cdx.json" "$out/$name/"
cp -R contrib/onecode.toml contrib/systemd contrib/prometheus contrib/grafana "$out/man" "$out/completions" "$out/$name/"
# Same input, same archive: the times are those of the last commit.
tar --directory "$out" --sort=name --owner=0 --group=0 --numeric-owner --mtime="@$(git log -1 --format=%ct)" \
    --create "$name" | gzip --no-name >"$out/$name.tar.gz"
rm -r "${out:?}/$name"
ls -l "$out"/*.deb "$out"/*.tar.gz
