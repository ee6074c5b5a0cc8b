# Sourced by the scripts beside it: makes .venv with the package in it, and puts .venv/bin first on PATH.
# setup [EXTRAS], for example "setup '[test]'". Quick when there is nothing to do.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
venv=$root/.venv

say() { printf '%s\n' "$*" >&2; }
fail() { say "$*"; exit 1; }

# Install Debian packages; false, with a word which ones are missing, where that cannot be done.
install_packages() {
    local sudo=()
    if [[ $(id -u) -ne 0 ]]; then
        sudo=(sudo -n)
        sudo -n true 2>/dev/null || { say "missing Debian packages; install them with: sudo apt-get install $*"; return 1; }
    fi
    command -v apt-get >/dev/null || { say "missing (by their Debian names): $*"; return 1; }
    say "installing $* ..."
    local install=(env DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends install "$@")
    # A fresh machine has no package lists yet.
    "${sudo[@]}" "${install[@]}" >/dev/null 2>&1 ||
        { "${sudo[@]}" apt-get -qq update >/dev/null && "${sudo[@]}" "${install[@]}" >/dev/null; } ||
        { say "could not install them; try: sudo apt-get install $*"; return 1; }
}

need_packages() { install_packages "$@" || exit 1; }

# The packages among PACKAGE:COMMAND whose command is not there.
missing_packages() {
    local pair
    for pair; do
        command -v "${pair#*:}" >/dev/null || printf '%s\n' "${pair%%:*}"
    done
}

# What builds firmware for boards.
firmware_packages() {
    missing_packages gcc-arm-none-eabi:arm-none-eabi-gcc
    [[ -e $(arm-none-eabi-gcc -print-sysroot 2>/dev/null)/include/stdint.h ]] ||
        echo | arm-none-eabi-gcc -xc -fsyntax-only -include stdint.h - 2>/dev/null || echo libnewlib-arm-none-eabi
}

# What the tests run firmware in, and hunt its faults with.
check_packages() {
    missing_packages gcc:gcc g++:g++ make:make qemu-system-arm:qemu-system-arm clang:clang bochs:bochs
    compgen -G '/usr/lib/*/bochs/plugins/libbx_term_gui.so' >/dev/null || echo bochs-term
    echo 'int LLVMFuzzerTestOneInput(void) { return 0; }' |
        clang -xc -fsanitize=fuzzer,address -o /dev/null - 2>/dev/null || echo libclang-rt-dev
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
