#!/usr/bin/env bash
# The checkout's own uv: `requirements/uv.sh ARGUMENTS...` runs it, from the checkout's root, and first
# installs the pinned one in .uv. The other scripts of this folder source this file for its functions.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# An activated environment or a site's wrapper must not decide what lands in this checkout.
unset VIRTUAL_ENV CONDA_PREFIX PYTHONHOME UV_SYSTEM_PYTHON UV_TARGET UV_PREFIX PIP_TARGET PIP_PREFIX PIP_USER
export UV_PYTHON_DOWNLOADS=never UV_HTTP_TIMEOUT=${UV_HTTP_TIMEOUT:-180}

say() { echo "g2rpo: $*" >&2; }

die() {
    say "$*"
    exit 1
}

# digest FILE...: of the files, and of where they are, because a virtual environment cannot be moved.
digest() { { printf '%s\n' "$PWD" && cat "$@"; } | sha256sum | cut -d' ' -f1; }

# alone: no other installation in this checkout until this process ends.
alone() {
    [[ -z ${locked:-} ]] || return 0
    mkdir -p .uv
    exec 9>.uv/lock
    flock --nonblock 9 || { say "waiting for another installation in this checkout" && flock 9; }
    locked=yes
}

# suits COMMAND: whether it is a Python with wheels for everything that is pinned.
suits() { "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))' 2>/dev/null; }

find_python() {
    local candidate
    for candidate in ${PYTHON:+"$PYTHON"} python3 python3.14 python3.13 python3.12 python3.11 python; do
        if suits "$candidate"; then
            "$candidate" -c 'import sys; print(sys.executable)'
            return
        fi
        [[ -z ${PYTHON:-} ]] || die "PYTHON=$PYTHON is not a Python 3.11, 3.12, 3.13 or 3.14."
    done
    die "needs Python 3.11, 3.12, 3.13 or 3.14 and found none; install one (Debian, Ubuntu:" \
        "'apt install python3 python3-venv') or name one: 'make quickstart PYTHON=/path/to/python3'."
}

has_uv() { [[ -x .uv/bin/uv && $(cat .uv/installed 2>/dev/null) == "$(digest requirements/uv.txt)" ]]; }

install_uv() {
    local python pip=(-m pip install --quiet --no-input --no-cache-dir --disable-pip-version-check
        --root-user-action=ignore --only-binary :all: --require-hashes --requirement requirements/uv.txt)
    python=$(find_python)
    say "setting up uv, which installs everything else, in .uv"
    rm -rf .uv/bin .uv/lib* .uv/include .uv/uv* .uv/installed
    if "$python" -c 'import ensurepip, venv' 2>/dev/null; then
        "$python" -m venv .uv
        .uv/bin/python "${pip[@]}"
    elif "$python" -m pip --version >/dev/null 2>&1; then
        "$python" "${pip[@]}" --target .uv
    else
        die "$python has neither venv nor pip; on Debian and Ubuntu 'apt install python3-venv' brings them."
    fi
    digest requirements/uv.txt >.uv/installed
}

# A home that cannot be written (a container's, a sandbox's) must not stop an installation.
choose_cache() {
    local cache
    cache=$(.uv/bin/uv cache dir)
    if ! mkdir -p "$cache" 2>/dev/null || [[ ! -w $cache ]]; then
        say "$cache cannot be written; downloads are kept in .uv/cache"
        export UV_CACHE_DIR=$PWD/.uv/cache
    fi
}

# ready_uv: `uv` may be called from here on.
ready_uv() {
    has_uv || { alone && { has_uv || install_uv; }; }
    choose_cache
}

uv() { .uv/bin/uv "$@"; }

if [[ ${BASH_SOURCE[0]} == "$0" ]]; then
    ready_uv
    uv "$@"
fi
