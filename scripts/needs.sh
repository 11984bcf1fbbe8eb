# Sourced by run.sh and test.sh: finds what is missing on this machine, says so, and installs it with apt.
#
# A script calls `need` for each tool and then `install_missing` once. Nothing is installed that was not named before.

missing_packages=()
missing_words=()

# need WORD PACKAGES TEST...: if the command TEST fails, PACKAGES (a list in one word) are missing, for WORD.
need() {
    local word=$1 packages=$2
    shift 2
    if ! "$@" >/dev/null 2>&1; then
        missing_words+=("$word")
        # shellcheck disable=SC2206 # a list in one word
        missing_packages+=($packages)
    fi
}

have() { command -v "$1"; }

# version_at_least COMMAND MAJOR: whether `COMMAND --version` prints v20.1.2 or 20.1.2 with that major or a later one.
version_at_least() {
    local version
    version=$("$1" --version) || return 1
    version=${version#v}
    [ "${version%%.*}" -ge "$2" ]
}

need_cargo() {
    if ! command -v cargo >/dev/null 2>&1; then
        echo "onecode: cargo is missing: install a Rust toolchain from https://rustup.rs, open a new shell, run this again" >&2
        exit 1
    fi
}

# After install_missing: what apt has may be too old.
require_node() {
    if ! version_at_least node 18; then
        echo "onecode: the Node.js here is older than 18: install one from https://nodejs.org and run this again" >&2
        exit 1
    fi
}

# install_missing MAY_INSTALL: installs what `need` found missing, or names it and exits 1.
install_missing() {
    if [ ${#missing_packages[@]} -eq 0 ]; then
        return
    fi
    local as_root=()
    echo "onecode: missing here: ${missing_words[*]}" >&2
    if [ "$(id -u)" -ne 0 ]; then
        as_root=(sudo)
    fi
    if [ "$1" != yes ] || ! command -v apt-get >/dev/null || { [ "$(id -u)" -ne 0 ] && ! command -v sudo >/dev/null; }; then
        echo "onecode: install these first: ${missing_packages[*]}" >&2
        exit 1
    fi
    echo "onecode: installing with apt-get: ${missing_packages[*]}" >&2
    # What apt says goes to stderr: stdout belongs to the program that is started afterwards.
    "${as_root[@]}" apt-get update -qq >&2
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
        "${missing_packages[@]}" >&2
}

# need_tool CRATE VERSION MAY_INSTALL: a tool that Cargo installs, named before, into the target folder; it is then in PATH.
need_tool() {
    local crate=$1 version=$2 tools
    tools=${CARGO_TARGET_DIR:-$root/target}/tools
    PATH=$tools/bin:$PATH
    if have "$crate" >/dev/null; then
        return
    fi
    if [ "$3" != yes ]; then
        echo "onecode: install this first: cargo install --locked --root $tools $crate@$version" >&2
        exit 1
    fi
    echo "onecode: building $crate $version into $tools; this takes some minutes" >&2
    cargo install --debug --quiet --locked --root "$tools" "$crate@$version" >&2
}
