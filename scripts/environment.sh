# shellcheck shell=bash
# Functions shared by the scripts in this folder, which source this file. They work in the project's folder.

environment_exit_code=5 # the program's own exit code for "this machine lacks something"
python=.venv/bin/python

# pip trusts the certificates of the system, uv only if it is told to: some institutes' proxies have one of their own
[ ! -d /etc/ssl/certs ] || export UV_SYSTEM_CERTS="${UV_SYSTEM_CERTS:-1}"

# Library or program that the GUI tests load, and the Debian package that brings it. Libraries are looked for
# by their own names, because the packages' names differ between distributions.
gui_requirements="
    Xvfb                     xvfb
    xauth                    xauth
    libEGL.so.1              libegl1
    libGL.so.1               libgl1
    libglib-2.0.so.0         libglib2.0-0
    libdbus-1.so.3           libdbus-1-3
    libfontconfig.so.1       libfontconfig1
    libxkbcommon-x11.so.0    libxkbcommon-x11-0
    libxcb-cursor.so.0       libxcb-cursor0
    libxcb-icccm.so.4        libxcb-icccm4
    libxcb-keysyms.so.1      libxcb-keysyms1
    libxcb-shape.so.0        libxcb-shape0
"

say() {
    printf '%s\n' "$@" >&2
}

stop() {
    say "$@"
    exit "$environment_exit_code"
}

# Print the path of a Python that is new enough.
find_python() {
    local name
    for name in python3 python3.14 python3.13 python3.12 python3.11; do
        if "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            command -v "$name"
            return
        fi
    done
    return 1
}

as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    else
        sudo -n "$@"
    fi
}

# Install Debian packages, if there is apt and we may use it.
install_packages() {
    if ! command -v apt-get >/dev/null || ! as_root true 2>/dev/null; then
        return 1
    fi
    say "Installing system packages: $*"
    as_root apt-get -qq update || say "Going on with the old package lists."
    as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq install --yes --no-install-recommends "$@" >/dev/null
}

create_virtual_environment() {
    local base venv_package
    base=$(find_python) || stop \
        "Python 3.11 or newer is needed, and no python3 on the PATH is." \
        "Install one (on Debian and Ubuntu: apt install python3.12 python3.12-venv) and run this again."
    if ! "$base" -c 'import ensurepip, venv' 2>/dev/null; then
        # Debian keeps this part of Python's standard library in a package of its own
        venv_package=$("$base" -c 'import sys; print("python{}.{}-venv".format(*sys.version_info))')
        install_packages "$venv_package" || stop \
            "$base cannot create virtual environments, and the missing package could not be installed from here." \
            "Ask for it (apt install $venv_package) and run this again."
    fi
    "$base" -m venv --clear .venv
}

# Make sure that .venv exists and holds uv.
prepare_uv() {
    if "$python" -m uv --version >/dev/null 2>&1; then
        return
    fi
    [ -x "$python" ] || create_virtual_environment
    "$python" -m pip --version >/dev/null 2>&1 || "$python" -m ensurepip --default-pip >/dev/null
    "$python" -m pip install --quiet --disable-pip-version-check 'uv>=0.9'
}

# Make .venv hold what uv.lock says, with uv's options for groups and extras as arguments.
prepare_environment() {
    prepare_uv
    # inexact: what another of the scripts has put there may stay. Bytecode is compiled now, because every command and
    # many tests start Python anew, and some machines forbid writing it later (PYTHONDONTWRITEBYTECODE)
    UV_PROJECT_ENVIRONMENT=.venv "$python" -m uv sync --quiet --frozen --inexact --compile-bytecode "$@"
}

# Print the Debian packages that would bring what the GUI tests need and this machine lacks, on one line.
missing_gui_packages() {
    # shellcheck disable=SC2086
    "$python" - $gui_requirements <<'END'
import ctypes, shutil, sys

def is_there(name):
    if ".so." not in name:
        return shutil.which(name)
    try:
        return ctypes.CDLL(name)
    except OSError:
        return None

print(*(package for name, package in zip(sys.argv[1::2], sys.argv[2::2]) if not is_there(name)))
END
}

# Install what the GUI tests need and print what is still missing.
prepare_display() {
    local missing
    missing=$(missing_gui_packages)
    if [ -n "$missing" ]; then
        # shellcheck disable=SC2086
        install_packages $missing || true # the caller tells what is missing
        missing=$(missing_gui_packages)
    fi
    printf '%s' "$missing"
}
