#!/usr/bin/env bash
# Writes the pin files of this folder from the pyproject files, or checks that they agree.
#
#   compile.sh upgrade   newest versions that the pyproject files allow   (make pins)
#   compile.sh keep      pinned versions stay, new dependencies are added (make pins KEEP=1)
#   compile.sh check     change nothing, fail if `keep` would             (make check-pins)
source "$(dirname "${BASH_SOURCE[0]}")/uv.sh"
mode=${1:?upgrade, keep or check}
ready_uv

options=(--quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate
    --no-emit-package g2rpo-api --override requirements/overrides.txt)
if [[ $mode == upgrade ]]; then options+=(--upgrade); fi

target=requirements
if [[ $mode == check ]]; then
    target=$(mktemp -d)
    trap 'rm -rf "$target"' EXIT
    # uv prefers the versions and hashes that it finds in the output file.
    cp requirements/*.txt "$target"
fi

# compile NAME SOURCE...: pins everything that the sources ask for, in NAME.txt.
compile() {
    local name=$1
    shift
    uv pip compile "${options[@]}" "$@" --output-file "$target/$name.txt" >&2
}

# extra NAME: what an extra of the trainer adds, in trainer-NAME.txt, for installing on top of trainer.txt.
extra() {
    local name=$1 wishes
    wishes=$("$(find_python)" -c 'import sys, tomllib
project = tomllib.load(open("trainer/pyproject.toml", "rb"))["project"]
print(*project["optional-dependencies"][sys.argv[1]], sep="\n")' "$name")
    compile "trainer-$name" - --constraint "$target/dev.txt" <<<"$wishes"
}

compile uv --group uv
compile build --group build
compile chart-rules --group chart-rules
compile docs --group docs
compile helm --group helm --no-deps # the programs only, not the library around them
compile operator api/pyproject.toml operator/pyproject.toml
compile trainer api/pyproject.toml trainer/pyproject.toml
compile dev api/pyproject.toml operator/pyproject.toml trainer/pyproject.toml \
    --extra plugin --extra parquet --extra tensorboard --extra wandb --group test --group check --group images --group monitoring
for name in parquet tensorboard wandb; do extra "$name"; done

if [[ $mode == check ]] && ! diff -ru requirements "$target" --exclude='*.sh' >&2; then
    echo "g2rpo: requirements/ does not agree with the pyproject files; 'make pins KEEP=1' mends it." >&2
    exit 1
fi
