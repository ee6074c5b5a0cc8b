# Sourced by the scripts beside it: makes .venv with the package in it, and puts .venv/bin first on PATH.
# setup [EXTRAS], for example "setup '[test]'". Quick when there is nothing to do.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
venv=$root/.venv

say() { printf '%s\n' "$*" >&2; }
fail() { say "$*"; exit 1; }

# Install Debian packages, or say which ones are missing.
need_packages() {
    local sudo=()
    if [[ $(id -u) -ne 0 ]]; then
        sudo=(sudo -n)
        sudo -n true 2>/dev/null || fail "missing Debian packages; install them with: sudo apt-get install $*"
    fi
    command -v apt-get >/dev/null || fail "missing (by their Debian names): $*"
    say "installing $* ..."
    local install=(env DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends install "$@")
    # A fresh machine has no package lists yet.
    "${sudo[@]}" "${install[@]}" >/dev/null 2>&1 ||
        { "${sudo[@]}" apt-get -qq update >/dev/null && "${sudo[@]}" "${install[@]}" >/dev/null; } ||
        fail "could not install them; try: sudo apt-get install $*"
}

setup() {
    local extras=${1:-} stamp=$venv/tinymbn-installed wanted all sound=false
    # What the installation hangs on: where the folder is, the project file, the extras.
    wanted="$root $(sha256sum <"$root/pyproject.toml")$extras"
    all="${wanted%"$extras"}[test]" # holds the package alone as well
    if "$venv/bin/tinymbn" --version >/dev/null 2>&1 && grep -qsF "$root " "$stamp"; then
        sound=true
        if grep -qxF -e "$wanted" -e "$all" "$stamp"; then
            PATH=$venv/bin:$PATH
            return
        fi
    fi

    command -v python3 >/dev/null || need_packages python3 python3-venv
    python3 -c 'import sys; sys.exit(sys.version_info < (3, 10))' ||
        fail "$(python3 --version) is too old; tinymbn needs Python 3.10 or later"
    python3 -c 'import ensurepip, venv' 2>/dev/null || need_packages python3-venv

    say "setting up $venv (a minute or two the first time) ..."
    rm -f "$stamp"
    # A folder that was moved, an installation that was interrupted, a Python that is gone: start anew.
    $sound || python3 -m venv --clear "$venv"
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --editable "$root$extras"
    printf '%s\n' "$wanted" >"$stamp"
    PATH=$venv/bin:$PATH
}
