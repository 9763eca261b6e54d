#!/usr/bin/env bash
# Brings the checkout's own tools to what the pin files of this folder say; repeating it costs nothing.
#
#   install.sh uv        uv, in .uv
#   install.sh trainer   the trainer and what it runs on, in .venv (make quickstart)
#   install.sh dev       all three distributions, test and check tools, in .venv (make test, make check)
#
# .venv/.installed names the set and a digest of everything that decides its content. `dev` contains
# `trainer`, so a `trainer` wish is content with a current `dev` and never takes tools away.
set -euo pipefail
wanted=${1:?uv, trainer or dev}
case $wanted in
    uv | trainer | dev) ;;
    *) echo "g2rpo: there is no set '$wanted'; there are uv, trainer and dev." >&2 && exit 2 ;;
esac
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# An activated environment or a site's wrapper must not decide what lands in this checkout.
unset VIRTUAL_ENV CONDA_PREFIX PYTHONHOME UV_SYSTEM_PYTHON UV_TARGET UV_PREFIX PIP_TARGET PIP_PREFIX PIP_USER
export UV_PYTHON_DOWNLOADS=never UV_HTTP_TIMEOUT=${UV_HTTP_TIMEOUT:-180}

say() { echo "g2rpo: $*" >&2; }

die() {
    say "$*"
    exit 1
}

digest() { { printf '%s\n' "$PWD" && cat "$@"; } | sha256sum | cut -d' ' -f1; }

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

install_uv() {
    local digest python pip=(-m pip install --quiet --no-input --disable-pip-version-check --root-user-action=ignore
        --only-binary :all: --require-hashes --requirement requirements/uv.txt)
    digest=$(digest requirements/uv.txt)
    [[ -x .uv/bin/uv && $(cat .uv/installed 2>/dev/null) == "$digest" ]] && return
    python=$(find_python)
    say "setting up uv, which installs everything else, in .uv"
    rm -rf .uv/bin .uv/lib .uv/include .uv/installed
    if "$python" -c 'import ensurepip, venv' 2>/dev/null; then
        "$python" -m venv .uv
        .uv/bin/python "${pip[@]}"
    elif "$python" -m pip --version >/dev/null 2>&1; then
        "$python" "${pip[@]}" --target .uv
    else
        die "$python has neither venv nor pip; on Debian and Ubuntu 'apt install python3-venv' brings them."
    fi
    echo "$digest" >.uv/installed
}

# A home that cannot be written (a container's, a sandbox's) must not stop the installation.
choose_cache() {
    local cache
    cache=$(.uv/bin/uv cache dir)
    if ! mkdir -p "$cache" 2>/dev/null || [[ ! -w $cache ]]; then
        say "$cache is not writable; downloads are kept in .uv/cache"
        export UV_CACHE_DIR=$PWD/.uv/cache
    fi
}

make_venv() {
    local python
    if [[ -x .venv/bin/python ]] && suits .venv/bin/python; then return; fi
    python=$(find_python)
    .uv/bin/uv venv --quiet --clear --no-project --python "$python" .venv
}

# install SET: exactly the set's pins, then our own distributions, editable.
install() {
    local name=$1 quiet=()
    [[ -t 2 ]] || quiet=(--quiet)
    echo "$name unfinished" >.venv/.installed
    say "installing $(grep -c == "requirements/$name.txt") pinned packages in .venv;" \
        "the first time about 3 GB are fetched and 6 GB written, later it takes seconds"
    .uv/bin/uv pip sync "${quiet[@]}" --python .venv --require-hashes \
        --build-constraint requirements/build.txt "requirements/$name.txt"
    .uv/bin/uv pip install --quiet --python .venv --no-deps \
        --build-constraint requirements/build.txt "${editables[@]}"
}

mkdir -p .uv
exec 9>.uv/lock
flock --nonblock 9 || { say "waiting for another installation in this checkout" && flock 9; }

install_uv
[[ $wanted == uv ]] && exit

read -r present found < <(cat .venv/.installed 2>/dev/null || true) || true
[[ ${present:-} == dev ]] && wanted=dev
editables=(--editable api --editable trainer)
[[ $wanted == dev ]] && editables+=(--editable operator)
now=$(digest "requirements/$wanted.txt" requirements/build.txt {api,operator,trainer}/pyproject.toml)
[[ ${found:-} == "$now" && -x .venv/bin/python ]] && exit

choose_cache
make_venv
install "$wanted"
echo "$wanted $now" >.venv/.installed
