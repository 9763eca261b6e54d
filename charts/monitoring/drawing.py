"""Grafana's own components, bundled, and a browser that draws with them.

Who calls this: `pictures.py`, and the test of comparing runs. Needs npm, and Chromium for pictures.
What is installed lies outside the checkout, in a cache folder that a change of render/ makes anew.
"""

from __future__ import annotations

import functools
import hashlib
import http.server
import json
import os
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

SOURCES = Path(__file__).parent / "render"
ICONS = "node_modules/@grafana/ui/dist/public"
CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
LOADERS = [f"--loader:.{kind}=dataurl" for kind in ("png", "svg", "ttf", "woff2")]
SCROLLBARS = "--alias:react-custom-scrollbars-2=./scrollbars.js"
BROWSER_SECONDS = 120
HEADLESS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--enable-logging=stderr",
    "--force-color-profile=srgb", "--virtual-time-budget=20000",
)  # fmt: skip
WIDTH = 1600


def installed() -> Path:
    """A folder with the components that package.json names, made if it is not there."""
    wishes = SOURCES / "package.json"
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = base / "g2rpo" / f"render-{_digest([wishes])}"
    if not (folder / "done").exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        shutil.copy(wishes, folder)
        quiet = ["--no-package-lock", "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error"]
        _run(["npm", "install", *quiet], folder)
        (folder / "done").touch()
    return folder


def bundle() -> Path:
    """The folder with page.js and frames_of.mjs, made if it is not there."""
    base = installed()
    made = base / _digest([Path(__file__), *sorted(SOURCES.iterdir())])
    if not made.exists():
        folder = Path(tempfile.mkdtemp(dir=base))
        shutil.copytree(SOURCES, folder, dirs_exist_ok=True)
        esbuild = str(base / "node_modules/.bin/esbuild")
        options = ["--bundle", "--log-level=error", '--define:process.env.NODE_ENV="production"', *LOADERS]
        _run([esbuild, "page.tsx", "--outfile=page.js", "--minify", SCROLLBARS, *options], folder)
        browser = "--banner:js=globalThis.window = globalThis; globalThis.navigator ??= { languages: ['en'] };"
        node = ["--platform=node", "--format=esm", "--main-fields=module,main", "--outfile=frames_of.mjs", browser]
        _run([esbuild, "frames_of.ts", *node, *options], folder)
        with suppress(OSError):  # another process was faster
            folder.rename(made)
        shutil.rmtree(folder, ignore_errors=True)
    return made


def _digest(paths: list[Path]) -> str:
    return hashlib.sha256(b"".join(path.read_bytes() for path in paths)).hexdigest()[:12]


def _run(command: list[str], folder: Path) -> None:
    subprocess.run(command, cwd=folder, check=True, stdin=subprocess.DEVNULL)


def frames(page: dict[str, Any]) -> list[Any]:
    """What each panel of the page draws: its frames, each a list of fields with `name` and `values`."""
    command = ["node", str(bundle() / "frames_of.mjs")]
    done = subprocess.run(command, input=json.dumps(page), capture_output=True, text=True, check=True)
    return list(json.loads(done.stdout))


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """The address of a web server for a folder."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """Nobody reads it."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=folder)) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


def draw(page: dict[str, Any], height: int, output: Path) -> None:
    """The page as a PNG of WIDTH times `height` pixels."""
    browser = next((found for found in map(shutil.which, CHROMIUM) if found), None)
    if browser is None:
        raise FileNotFoundError(f"no browser to draw with: install one of {', '.join(CHROMIUM)}")
    made = bundle()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        for name in ("index.html", "page.js", "page.css"):
            shutil.copy(made / name, folder)
        (folder / "public").symlink_to(installed() / ICONS)
        (folder / "answers.json").write_text(json.dumps(page), encoding="utf-8")
        with served(folder) as address:
            size, profile = f"--window-size={WIDTH},{height}", f"--user-data-dir={folder / 'profile'}"
            command = [browser, *HEADLESS, size, profile, f"--screenshot={output.absolute()}", f"{address}/index.html"]
            done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=BROWSER_SECONDS)
    if errors := [line for line in done.stderr.splitlines() if "Uncaught" in line]:
        raise RuntimeError("\n".join(errors))
