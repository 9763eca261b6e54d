"""`g2rpo-train job.yaml`: check, start ranks, train, and say how it ended.

The only place where exceptions become exit codes (`g2rpo_api.contract.ExitCode`). Heavy libraries are
imported after the job is known to be right, so that a mistake is answered at once.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from g2rpo_api import contract
from g2rpo_api.contract import ExitCode
from g2rpo_api.errors import SpecError
from g2rpo_api.job import G2RPOJob
from g2rpo_api.parse import load_job
from g2rpo_trainer.errors import TrainerError
from g2rpo_trainer.launch import RankEnvironment, follow_launcher, launch
from g2rpo_trainer.planning.plan import describe, plan
from g2rpo_trainer.runfolder import RunFolder

logger = logging.getLogger("g2rpo_trainer")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; the answer is the process's exit code."""
    logging.getLogger().addHandler(logging.NullHandler())  # until there is a run folder to log to
    arguments = _parser().parse_args(argv)
    place = RankEnvironment.read(os.environ)
    try:
        job = load_job(arguments.job)
        foreseen = plan(job)
        if arguments.check:
            print(describe(foreseen))
            return ExitCode.OK
        if place is None or place.rank == 0:
            RunFolder(arguments.runs / job.metadata.name).open(job)
    except SpecError as error:
        return _failed(error, ExitCode.INVALID_SPEC)
    except TrainerError as error:
        return _failed(error, error.exit_code)
    processes = job.spec.workers.processes_per_node
    if place is None:
        print(f"{job.metadata.name}: starting {processes} rank{'s' if processes > 1 else ''}", flush=True)
    if place is None and processes > 1:
        return launch(sys.argv[1:] if argv is None else argv, processes)
    return _rank(job, place or RankEnvironment.alone(), arguments)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="g2rpo-train",
        description="Align a flow-matching image model with rewards, as a G2RPOJob says.",
        epilog="Exit codes: 0 done, 2 invalid job, 3 model or data missing, 4 reward failed, 5 diverged, "
        "6 run folder not writable, 75 checkpointed on SIGTERM (start again to go on), 1 a bug (see log.jsonl).",
    )
    parser.add_argument("job", type=Path, help="the job, a YAML file with a G2RPOJob")
    parser.add_argument("--check", action="store_true", help="only check the job and say what it will do")
    parser.add_argument(
        "--runs",
        type=Path,
        default=Path(os.environ.get(contract.ENV_RUNS_DIR, "runs")),
        help=f"folder of run folders (default: ${contract.ENV_RUNS_DIR}, or ./runs)",
    )
    parser.add_argument(
        "--port",
        type=int,
        default=os.environ.get(contract.ENV_PORT),
        help=f"port of /metrics, /progress and /healthz (default: ${contract.ENV_PORT}, or {contract.DEFAULT_PORT} "
        "where that is free); 0 takes a free one",
    )
    return parser


class StopRequest:
    """Set by SIGTERM or Ctrl-C; the loop asks for it where it can stop. A second Ctrl-C is not waited for."""

    def __init__(self) -> None:
        """Not asked for yet."""
        self.asked = False

    def install(self) -> None:
        """Take over the signals."""
        signal.signal(signal.SIGTERM, self._ask)
        signal.signal(signal.SIGINT, self._ask)
        follow_launcher()

    def _ask(self, number: int, _: object) -> None:
        self.asked = True
        if number == signal.SIGINT:
            signal.signal(signal.SIGINT, signal.default_int_handler)


def _rank(job: G2RPOJob, place: RankEnvironment, arguments: argparse.Namespace) -> int:
    """Be one rank; every way out of the run ends here as an exit code."""
    stop = StopRequest()
    stop.install()
    _prepare_environment(place)
    try:
        from g2rpo_trainer.session import run_job  # noqa: PLC0415  heavy libraries only once the job is right

        done = run_job(job, place, arguments.runs, arguments.port, lambda: stop.asked)
        return ExitCode.OK if done else ExitCode.CHECKPOINTED
    except SpecError as error:
        return _failed(error, ExitCode.INVALID_SPEC)
    except TrainerError as error:
        return _failed(error, error.exit_code)
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except Exception as error:  # the last resort: a bug's traceback belongs into the log
        logger.exception("rank %d ended by a bug", place.rank)
        print(f"\nrank {place.rank}: {type(error).__name__}: {error} (traceback: {contract.RUN_LOG})", file=sys.stderr)
        return ExitCode.BUG


def _failed(error: Exception, code: ExitCode) -> int:
    logger.error("%s", error)
    print(error, file=sys.stderr)
    return code


def _prepare_environment(place: RankEnvironment) -> None:
    """What libraries read when they are imported."""
    os.environ.update(place.variables())
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # ranks share cores: more threads each only wait for each other
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("DIFFUSERS_VERBOSITY", "error")
    os.environ.setdefault("DEEPSPEED_LOG_LEVEL", "warning")


if __name__ == "__main__":
    sys.exit(main())
