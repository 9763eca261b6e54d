#!/usr/bin/env bash
# Brings .venv to what the pin files of this folder say; repeating it costs nothing.
#
#   install.sh trainer   the trainer and what it runs on (make quickstart)
#   install.sh dev       all three distributions, test and check tools (make test, make check)
#
# .venv/.installed names the set and a digest of everything that decides its content. `dev` contains
# `trainer`, so a wish for `trainer` is content with a current `dev` and never takes tools away.
source "$(dirname "${BASH_SOURCE[0]}")/uv.sh"
wanted=${1:?trainer or dev}

# choose_set: sets name, editables and now, the digest that .venv/.installed should hold.
choose_set() {
    local present
    read -r present _ < <(cat .venv/.installed 2>/dev/null) || true
    [[ ${present:-} == dev ]] && name=dev || name=$wanted
    case $name in
        trainer) editables=(--editable api --editable trainer) ;;
        dev) editables=(--editable api --editable operator --editable trainer) ;;
        *) die "there is no set '$name'; there are trainer and dev." ;;
    esac
    now=$(digest "requirements/$name.txt" requirements/build.txt {api,operator,trainer}/pyproject.toml)
}

current() { [[ -x .venv/bin/python && $(cat .venv/.installed 2>/dev/null) == "$name $now" ]]; }

make_venv() {
    local python
    if [[ -x .venv/bin/python ]] && suits .venv/bin/python; then return; fi
    python=$(find_python)
    uv venv --quiet --clear --no-project --python "$python" .venv
}

# install: exactly the set's pins, then our own distributions, editable.
install() {
    local quiet=()
    [[ -t 2 ]] || quiet=(--quiet)
    echo "$name unfinished" >.venv/.installed
    say "installing $(grep -c == "requirements/$name.txt") pinned packages in .venv;" \
        "the first time about 3 GB are fetched and 6 GB written, later it takes seconds"
    uv pip sync "${quiet[@]}" --python .venv --require-hashes --compile-bytecode \
        --build-constraint requirements/build.txt "requirements/$name.txt"
    uv pip install --quiet --python .venv --no-deps --build-constraint requirements/build.txt "${editables[@]}"
    echo "$name $now" >.venv/.installed
}

choose_set
current && exit
alone
choose_set
current && exit
ready_uv
make_venv
install
