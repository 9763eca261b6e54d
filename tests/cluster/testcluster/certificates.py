"""A certificate authority of a cluster's own, and the certificates of its programs and people.

Who calls this: controlplane, once per start. It uses the `openssl` command, so it needs no Python package.
Its business ends with PEM files.
"""

from __future__ import annotations

import secrets
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

DAYS = "30"
NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
CONFIG = """\
[req]
distinguished_name = name
[name]
[authority]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
[leaf]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth, clientAuth
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
"""


@dataclass(frozen=True)
class Pair:
    """A certificate and its key, as files."""

    certificate: Path
    key: Path


def openssl(*arguments: str | Path) -> None:
    """Run openssl; RuntimeError with its words if it fails."""
    done = subprocess.run(["openssl", *map(str, arguments)], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"openssl {arguments[0]}: {done.stderr.strip()}")


class Authority:
    """Signs certificates; its own is `pair.certificate`."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(mode=0o700, exist_ok=True)
        self.folder = folder
        self.config = folder / "openssl.cnf"
        self.config.write_text(CONFIG)
        self.pair = self.files("ca")
        new = ("req", "-x509", "-config", self.config, "-extensions", "authority", "-subj", "/CN=testcluster")
        openssl(*new, *NEW_KEY, "-days", DAYS, "-keyout", self.pair.key, "-out", self.pair.certificate)

    def files(self, name: str) -> Pair:
        return Pair(self.folder / f"{name}.crt", self.folder / f"{name}.key")

    def issue(self, name: str, subject: str, hosts: Sequence[str] = ()) -> Pair:
        """A certificate for `subject` (as /O=group/CN=user), which also serves the hosts (as DNS:name, IP:address)."""
        pair, request, leaf = self.files(name), self.folder / f"{name}.csr", self.folder / f"{name}.cnf"
        leaf.write_text(CONFIG + (f"subjectAltName = {', '.join(hosts)}\n" if hosts else ""))
        openssl("req", "-config", leaf, *NEW_KEY, "-subj", subject, "-keyout", pair.key, "-out", request)
        signed_by = ("-CA", self.pair.certificate, "-CAkey", self.pair.key, "-set_serial", str(secrets.randbits(63)))
        extensions = ("-extfile", leaf, "-extensions", "leaf")
        openssl("x509", "-req", "-in", request, *signed_by, *extensions, "-days", DAYS, "-out", pair.certificate)
        return pair

    def signing_key(self, name: str) -> Path:
        """A bare key, for the tokens of service accounts."""
        key = self.files(name).key
        openssl("ecparam", "-genkey", "-name", "prime256v1", "-noout", "-out", key)
        return key
