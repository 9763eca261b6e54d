#!/usr/bin/env bash
# Brings .venv, or .venv-docs, to what the pin files of this folder say; repeating it costs nothing.
#
#   install.sh trainer   the trainer and what it runs on (make quickstart)
#   install.sh dev       all three distributions, test and check tools (make test, make check)
#   install.sh docs      what builds the site, in .venv-docs (make docs)
#
# .installed in them names the set and a digest of everything that decides its content. `dev` contains
# `trainer`, so a wish for `trainer` is content with a current `dev` and never takes tools away.
source "$(dirname "${BASH_SOURCE[0]}")/uv.sh"
wanted=${1:?trainer, dev or docs}

# choose_set: sets venv, name, editables and now, the digest that .installed in it should hold.
choose_set() {
    local present
    [[ $wanted == docs ]] && venv=.venv-docs || venv=.venv
    read -r present _ < <(cat "$venv/.installed" 2>/dev/null) || true
    [[ ${present:-} == dev ]] && name=dev || name=$wanted
    case $name in
        docs) editables=() ;;
        trainer) editables=(--editable api --editable trainer) ;;
        dev) editables=(--editable api --editable operator --editable trainer) ;;
        *) die "there is no set '$name'; there are trainer, dev and docs." ;;
    esac
    now=$(digest "requirements/$name.txt" requirements/build.txt {api,operator,trainer}/pyproject.toml)
}

current() { [[ -x $venv/bin/python && $(cat "$venv/.installed" 2>/dev/null) == "$name $now" ]]; }

make_venv() {
    local python
    if [[ -x $venv/bin/python ]] && suits "$venv/bin/python"; then return; fi
    python=$(find_python)
    uv venv --quiet --clear --no-project --python "$python" "$venv"
}

# install: exactly the set's pins, then our own distributions, editable.
install() {
    local quiet=() size=''
    [[ -t 2 ]] || quiet=(--quiet)
    [[ $name == docs ]] || size='; the first time about 3 GB are fetched and 6 GB written, later it takes seconds'
    echo "$name unfinished" >"$venv/.installed"
    say "installing $(grep -c == "requirements/$name.txt") pinned packages in $venv$size"
    uv pip sync "${quiet[@]}" --python "$venv" --require-hashes --compile-bytecode \
        --build-constraint requirements/build.txt "requirements/$name.txt"
    [[ ${#editables[@]} == 0 ]] ||
        uv pip install --quiet --python "$venv" --no-deps --build-constraint requirements/build.txt "${editables[@]}"
    echo "$name $now" >"$venv/.installed"
}

choose_set
current && exit
alone
choose_set
current && exit
ready_uv
make_venv
install
