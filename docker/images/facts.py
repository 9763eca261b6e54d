"""What the images are made from: names, version, times, and what pip and uv need to reach their index from here.

Who calls this: `__main__.py` and `engines.py`.
"""

from __future__ import annotations

import configparser
import os
import re
import shlex
import ssl
import subprocess
import tomllib
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TARGETS = ("operator", "trainer")
REPOSITORY = "docker.io/g2rpo"
INPUTS = ("Dockerfile", ".dockerignore", "LICENSE", "api", "docker", "operator", "requirements", "trainer")
"""Files and folders that decide what is in an image."""
INDEX_VARIABLES = (
    "UV_DEFAULT_INDEX", "UV_INDEX", "UV_INDEX_URL", "UV_EXTRA_INDEX_URL", "UV_INDEX_STRATEGY", "UV_INSECURE_HOST",
    "UV_HTTP_TIMEOUT", "PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_TRUSTED_HOST", "PIP_DEFAULT_TIMEOUT", "PIP_PROXY",
)  # fmt: skip
CERTIFICATE_VARIABLES = ("SSL_CERT_FILE", "PIP_CERT", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
PIP_FILES = ("/etc/pip.conf", "~/.pip/pip.conf", "~/.config/pip/pip.conf")
UV_FILES = ("~/.config/uv/uv.toml", "/etc/uv/uv.toml")


def version() -> str:
    """That of the distributions."""
    return str(tomllib.loads((ROOT / "api" / "pyproject.toml").read_text())["project"]["version"])


def image_name(repository: str, target: str) -> str:
    """Of an image, with its registry as containerd wants it; docker leaves out its own."""
    return f"{repository}/{target}:{version()}"


def default_base() -> str:
    """The base that the Dockerfile names."""
    match = re.search(r"^ARG BASE=(\S+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    if match is None:
        raise ValueError("the Dockerfile has no line ARG BASE=…")
    return match[1]


def ask(*command: str) -> str | None:
    """What a command prints; None where it fails or is missing."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def git(*arguments: str) -> str:
    """What git says about the checkout; nothing where there is no git or no repository."""
    return ask("git", "-C", str(ROOT), *arguments) or ""


def source_date_epoch() -> int:
    """When the images were created, in seconds since 1970: the last commit's time that changed what goes into one."""
    return int(os.environ.get("SOURCE_DATE_EPOCH") or git("log", "-1", "--format=%ct", "--", *INPUTS) or 0)


def revision() -> str:
    """The commit that is built, marked if the files are not its own."""
    changed = git("status", "--porcelain", "--", *INPUTS)
    return git("rev-parse", "HEAD") + ("-modified" if changed else "")


def source() -> str:
    """Where the sources are, if the checkout knows a public place."""
    url = re.sub(r"^git@([^:]+):", r"https://\1/", git("remote", "get-url", "origin"))
    return re.sub(r"//[^/@]*@", "//", url) if url.startswith("https://") else ""


def secrets(folder: Path, environment: Mapping[str, str] = os.environ) -> dict[str, Path]:
    """Files that the build may see and no image keeps, by name; written into the folder where they must be made up."""
    candidates = {
        "certificates": certificates(environment),
        "uv": first_file(environment.get("UV_CONFIG_FILE"), *UV_FILES),
    }
    found = {name: path for name, path in candidates.items() if path is not None}
    lines = [f"{name}={shlex.quote(value)}\n" for name, value in index_settings(environment).items()]
    if lines:
        found["environment"] = folder / "environment"
        found["environment"].write_text("".join(lines))
    return found


def certificates(environment: Mapping[str, str]) -> Path | None:
    """The authorities that this machine trusts: a company's own may be among them."""
    named = [environment.get(name) for name in CERTIFICATE_VARIABLES]
    return first_file(*named, pip_settings(environment).get("cert"), ssl.get_default_verify_paths().cafile)


def index_settings(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables by which pip and uv know their index, those from pip's files included."""
    from_files = {f"PIP_{name.upper().replace('-', '_')}": value for name, value in pip_settings(environment).items()}
    settings = from_files | dict(environment)
    return {name: settings[name] for name in INDEX_VARIABLES if settings.get(name)}


def pip_settings(environment: Mapping[str, str]) -> dict[str, str]:
    """What pip's own files say to `pip install`."""
    parser = configparser.RawConfigParser()
    files = (*PIP_FILES, environment.get("PIP_CONFIG_FILE", os.devnull))
    parser.read([Path(name).expanduser() for name in files], encoding="utf-8")
    sections = [section for section in ("global", "install") if parser.has_section(section)]
    return {name: " ".join(value.split()) for section in sections for name, value in parser.items(section)}


def first_file(*candidates: str | None) -> Path | None:
    """The first that exists."""
    paths = (Path(name).expanduser() for name in candidates if name)
    return next((path for path in paths if path.is_file()), None)
