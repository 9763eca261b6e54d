"""`g2rpo-reward-server --type HPSv2`: serve a reward over HTTP, for jobs whose reward is of type HTTP.

Heavy libraries are imported after the options are known to be right, so that a mistake is answered at once.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import threading
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from g2rpo_api.base import camel
from g2rpo_api.contract import ExitCode
from g2rpo_api.errors import SpecError, SpecProblem
from g2rpo_api.parse import parse_reward
from g2rpo_api.rewards import RewardSpec
from g2rpo_api.yamltext import Repeated, documents
from g2rpo_trainer.errors import TrainerError

MEBI = 2**20


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; the answer is the process's exit code."""
    arguments = _parser().parse_args(argv)
    try:
        return _serve(_reward_of(arguments), _token(arguments.token_from_env), arguments)
    except SpecError as error:
        print(error, file=sys.stderr)
        return ExitCode.INVALID_SPEC
    except OSError as error:
        print(f"g2rpo-reward-server: {arguments.host}:{arguments.port}: {error.strerror or error}", file=sys.stderr)
        return ExitCode.INVALID_SPEC
    except TrainerError as error:
        print(error, file=sys.stderr)
        return error.exit_code


def _reward_of(arguments: argparse.Namespace) -> RewardSpec:
    member = RewardSpec.members[arguments.type]
    settings = {camel(member): arguments.settings} if member and arguments.settings else {}
    described = {"name": "served", "type": arguments.type, "batchSize": arguments.batch_size, **settings}
    return parse_reward(described, "--settings")


def _token(variable: str | None) -> str | None:
    if variable is None:
        return None
    token = os.environ.get(variable, "").strip()
    if not token:
        problem = SpecProblem("--token-from-env", variable, "a variable that is set and not empty", "set it")
        raise SpecError([problem], "g2rpo-reward-server")
    return token


def _serve(spec: RewardSpec, token: str | None, arguments: argparse.Namespace) -> int:
    """Load the reward and answer until a signal comes."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    import torch  # noqa: PLC0415  heavy libraries only once the options are right

    from g2rpo_trainer.rewards.registry import build_reward  # noqa: PLC0415
    from g2rpo_trainer.rewardserver.server import Limits, RewardServer  # noqa: PLC0415

    device = torch.device(arguments.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    reward = build_reward(spec, device).reward
    limits = Limits(arguments.batch_size, arguments.wait_ms / 1000, arguments.max_request_mib * MEBI)
    server = RewardServer(reward, token, limits, arguments.host, arguments.port)
    who = "with the token" if token else "for everybody who can reach it"
    print(f"{spec.type} on {device} at http://{arguments.host}:{server.port}, {who}", flush=True)
    stop.wait()
    server.close()
    return ExitCode.OK


def _mapping(text: str) -> Mapping[str, Any]:
    try:
        (found,) = documents(text)
    except (yaml.YAMLError, Repeated, ValueError) as error:
        raise argparse.ArgumentTypeError(f"not one YAML mapping: {error}") from error
    if not isinstance(found, dict):
        raise argparse.ArgumentTypeError(f"not a mapping such as '{{path: /models/hps}}': {text}")
    return found


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is below 1")
    return value


def _not_negative(text: str) -> float:
    value = float(text)
    if not value >= 0:
        raise argparse.ArgumentTypeError(f"{value} is below 0")
    return value


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="g2rpo-reward-server",
        description="Serve a reward over HTTP, for jobs with a reward of type HTTP: POST /score, GET /healthz, "
        "GET /metrics.",
        epilog="Exit codes: 0 ended by SIGTERM or Ctrl-C, 2 wrong options or port, 4 the reward cannot be loaded.",
    )
    parser.add_argument("--type", required=True, choices=sorted(RewardSpec.members), help="as in a job")
    parser.add_argument(
        "--settings",
        type=_mapping,
        default=None,
        help="settings of the type as in a job, in YAML: '{path: /models/hps}'",
    )
    parser.add_argument("--device", help="such as cuda:1 (default: the first GPU, or the CPU where there is none)")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: this machine only)")
    parser.add_argument("--port", type=int, default=8000, help="port to listen on; 0 takes a free one (default: 8000)")
    parser.add_argument("--token-from-env", metavar="NAME", help="variable with the token that clients must send")
    parser.add_argument("--batch-size", type=_positive, default=64, help="pictures scored together (default: 64)")
    parser.add_argument(
        "--wait-ms", type=_not_negative, default=5.0, help="how long a request waits for others to join it (default: 5)"
    )
    parser.add_argument(
        "--max-request-mib", type=_positive, default=256, help="size of a request at most (default: 256)"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
