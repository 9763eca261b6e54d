"""`python -m images COMMAND`: build the images, write one to a file, list what is in them.

    build [operator] [trainer]      both when none is named; with docker or podman where they have or can pull the base,
                                    else with buildah and a base made of Debian packages
    archive operator|trainer        print the path of a file that `ctr images import` takes; kept in the user's cache
    sbom [operator] [trainer]       dist/sbom/: SPDX and CycloneDX

Who calls this: `make images`, `make sbom`, and the tests that run the images.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from images import facts, standin
from images.engines import BUILDAH, DOCKER, PODMAN, CannotBuildError, Engine, Recipe, has_base

ENGINES = {engine.name: engine for engine in (DOCKER, PODMAN, BUILDAH)}
HELD_BY = (BUILDAH, PODMAN, DOCKER)
"""Where an image is looked for."""
SBOM_FORMATS = {"spdx": "spdx-json", "cdx": "cyclonedx-json"}


def say(text: str) -> None:
    """Tell the person at the terminal."""
    print(f"g2rpo: {text}", file=sys.stderr, flush=True)


@contextmanager
def timed(what: str) -> Iterator[None]:
    """Say what happens now, and how long it took."""
    say(f"{what} …")
    began = time.monotonic()
    yield
    say(f"{what}: {time.monotonic() - began:.0f} s")


def choose_engine(wanted: str, base: str) -> Engine:
    """The one asked for, or the first that can come by the base."""
    if wanted != "auto":
        return ENGINES[wanted]
    return next((engine for engine in (DOCKER, PODMAN) if has_base(engine, base)), BUILDAH)


def prepare_buildah(bases: set[str], *, install: bool, fresh: bool) -> None:
    """Programs and bases that buildah needs."""
    missing = standin.missing_packages()
    if missing and not (install and os.geteuid() == 0):
        raise CannotBuildError(
            "neither docker nor podman has the base image or can pull it here. Without them, as root on Debian or "
            f"Ubuntu: apt-get install {' '.join(missing)} (or: make images ARGS=--install)."
        )
    if missing:
        with timed(f"installing {', '.join(missing)}"):
            standin.install_packages()
    for base in sorted(bases):
        if fresh or (not BUILDAH.image_id(base) and facts.ask("buildah", "pull", "--quiet", base) is None):
            with timed(f"making a stand-in for {base} of Debian packages (some 30 s)"):
                standin.make(base)


def build_arguments(target: str, options: argparse.Namespace) -> dict[str, str]:
    """Values of the Dockerfile's ARGs."""
    created = datetime.fromtimestamp(facts.source_date_epoch(), UTC)
    arguments = {
        "BASE": options.base,
        "VERSION": facts.version(),
        "REVISION": facts.revision(),
        "SOURCE": facts.source(),
        "CREATED": created.strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
    own = {"TRAINER_BASE": options.trainer_base or options.base, "EXTRAS": options.extras}
    return arguments | (own if target == "trainer" else {})


def build(options: argparse.Namespace) -> None:
    """Make the targets."""
    targets = options.targets or list(facts.TARGETS)
    engine = choose_engine(options.engine, options.base)
    say(f"building {' and '.join(targets)} with {engine.name}")
    if engine is BUILDAH:
        bases = {options.base, *([options.trainer_base] if options.trainer_base and "trainer" in targets else [])}
        prepare_buildah(bases, install=options.install, fresh=options.fresh_base)
    for target in targets:
        hint = "half a minute" if target == "operator" else "5 minutes and 15 GB of disk"
        with tempfile.TemporaryDirectory(prefix="g2rpo-secrets-") as folder:
            name = facts.image_name(options.repository, target)
            secrets = facts.secrets(Path(folder))
            recipe = Recipe(target, name, build_arguments(target, options), secrets, cached=not options.no_cache)
            with timed(f"{recipe.name} (the first time {hint})"):
                engine.build_image(recipe)


def holder(name: str) -> tuple[Engine, str]:
    """Who has an image, and its digest."""
    for engine in HELD_BY:
        identity = engine.image_id(name)
        if identity:
            return engine, identity
    raise CannotBuildError(f"there is no image {name}; `make images` builds it.")


def archive(repository: str, target: str) -> Path:
    """A file with the image, written once for each image. Those of earlier images are removed."""
    name = facts.image_name(repository, target)
    engine, identity = holder(name)
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "g2rpo" / "images"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{target}-{identity[:16]}.tar"
    if not path.exists():
        for old in folder.glob(f"{target}-*.tar*"):
            old.unlink(missing_ok=True)
        unfinished = path.with_suffix(f".tar.{os.getpid()}")
        try:
            with timed(f"writing {name} to {path}"):
                engine.save_image(name, unfinished)
                unfinished.rename(path)
        finally:
            unfinished.unlink(missing_ok=True)
    return path


def sbom(repository: str, target: str) -> None:
    """What is in the image, by syft, in both formats."""
    path = archive(repository, target)
    folder = facts.ROOT / "dist" / "sbom"
    folder.mkdir(parents=True, exist_ok=True)
    outputs = {folder / f"{target}.{short}.json": kind for short, kind in SBOM_FORMATS.items()}
    options = [part for file, kind in outputs.items() for part in ("--output", f"{kind}={file}")]
    named = ["--source-name", f"g2rpo/{target}", "--source-version", facts.version()]
    command = [str(facts.ROOT / ".venv/bin/syft"), "scan", "--quiet", *named, *options, f"docker-archive:{path}"]
    with timed(f"listing what is in {path.name}"):
        subprocess.run(command, check=True, env=os.environ | {"SYFT_CHECK_FOR_APP_UPDATE": "false"})
    for file in outputs:
        print(file.relative_to(facts.ROOT))


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(prog="images", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    make = commands.add_parser("build")
    make.add_argument("--engine", choices=("auto", *ENGINES), default="auto")
    make.add_argument("--base", default=facts.default_base(), help="image with Python 3.11 to 3.14, …@sha256:… too")
    make.add_argument("--trainer-base", default="", help="another one for the trainer, such as a CUDA devel image")
    make.add_argument("--extras", default="", help='of the trainer, such as "parquet wandb"')
    make.add_argument("--no-cache", action="store_true", help="build every step again")
    make.add_argument("--fresh-base", action="store_true", help="make the stand-in for the base anew")
    make.add_argument("--install", action="store_true", help="install buildah and mmdebstrap; so does CI=true")
    make.set_defaults(install=os.environ.get("CI") == "true")
    write, contents = commands.add_parser("archive"), commands.add_parser("sbom")
    write.add_argument("target", choices=facts.TARGETS)
    for command in (make, contents):
        command.add_argument("targets", nargs="*", metavar="TARGET", help=" or ".join(facts.TARGETS))
    for command in (make, write, contents):
        command.add_argument("--repository", default=facts.REPOSITORY, help="what stands before /operator:VERSION")
    return top


def main(arguments: list[str] | None = None) -> int:
    """The process's exit code."""
    options = parser().parse_args(arguments)
    wrong = set(getattr(options, "targets", ())) - set(facts.TARGETS)
    if wrong:
        parser().error(f"there is no target {', '.join(sorted(wrong))}; there are {' and '.join(facts.TARGETS)}.")
    try:
        if options.command == "build":
            build(options)
        elif options.command == "archive":
            print(archive(options.repository, options.target))
        else:
            for target in options.targets or facts.TARGETS:
                sbom(options.repository, target)
    except KeyboardInterrupt:
        return 130
    except CannotBuildError as error:
        say(str(error))
        return 1
    except subprocess.CalledProcessError as error:
        say(f"{' '.join(map(str, error.cmd))} ended with {error.returncode}.")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
