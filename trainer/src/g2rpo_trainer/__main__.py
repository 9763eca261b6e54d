"""`g2rpo-train job.yaml`: check, start ranks, train, and say how it ended.

The only place where exceptions become exit codes (`g2rpo_api.contract.ExitCode`) and last words. Heavy
libraries are imported after the job is known to be right, so that a mistake is answered at once.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import tempfile
import traceback
from collections.abc import Sequence
from pathlib import Path

from g2rpo_api import contract
from g2rpo_api.contract import ExitCode
from g2rpo_api.errors import SpecError
from g2rpo_api.job import G2RPOJob
from g2rpo_api.parse import load_job
from g2rpo_api.progress import TerminationReport
from g2rpo_trainer.environment import Nodes, RankEnvironment, Surroundings, refuse_other_nodes
from g2rpo_trainer.errors import TrainerError
from g2rpo_trainer.lastword import LastWord
from g2rpo_trainer.launch import LAUNCHED, follow_launcher, launch
from g2rpo_trainer.planning.findings import as_json, as_table, exit_code, refused
from g2rpo_trainer.planning.plan import count, describe, plan
from g2rpo_trainer.planning.sizes import size_of
from g2rpo_trainer.runfolder import RunFolder
from g2rpo_trainer.stopping import StopRequest

logger = logging.getLogger("g2rpo_trainer")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; the answer is the process's exit code."""
    logging.getLogger().addHandler(logging.NullHandler())  # until there is a run folder to log to
    given = sys.argv[1:] if argv is None else argv
    word = LastWord()
    try:
        report = _run(given, word)
    except SpecError as error:
        report = _failed(word, ExitCode.INVALID_SPEC, str(error))
    except TrainerError as error:
        report = _failed(word, error.exit_code, str(error))
    except KeyboardInterrupt:
        report = word.report(128 + signal.SIGINT, "interrupted")
    except Exception as error:
        traceback.print_exc()
        report = _failed(word, ExitCode.BUG, f"rank {word.rank}: {type(error).__name__}: {error}")
    word.say(report)
    return report.exit_code


def _failed(word: LastWord, code: int, message: str) -> TerminationReport:
    logger.error("%s", message, exc_info=code == ExitCode.BUG)
    print(message, file=sys.stderr)
    return word.report(code, message)


def _run(given: Sequence[str], word: LastWord) -> TerminationReport:
    """Check the job, or train; `word` learns on the way who speaks and how far training got."""
    arguments = _parser().parse_args(given)
    if arguments.check:
        return word.report(_check(arguments), "checked")
    word.path = _termination_log()
    word.clear()
    place = RankEnvironment.read(os.environ)
    word.rank = place.rank if place else 0
    job = load_job(arguments.job)
    plan(job)
    if place is None:
        return _node(job, arguments, given, word)
    if place.rank == 0:
        RunFolder(arguments.runs / job.metadata.name).open(job)
    return _rank(job, place, arguments, word)


def _check(arguments: argparse.Namespace) -> int:
    """Say what the job will do and what is wrong with it; the exit code of the first error."""
    try:
        job = load_job(arguments.job)
        counted = count(job)
    except (SpecError, TrainerError) as error:
        if arguments.output != "json":
            raise
        findings = list(refused(error))
        print(as_json(findings))
        return exit_code(findings)
    place = RankEnvironment.alone()
    _prepare_environment(place)
    from g2rpo_trainer.planning.doctor import examine, findings_of  # noqa: PLC0415  only once the job is right

    patient = examine(job, counted, arguments.runs, arguments.gpu_memory)
    findings = list(findings_of(patient))
    if arguments.deep:
        from g2rpo_trainer.planning.deep import deep_findings  # noqa: PLC0415  loads everything

        findings += deep_findings(job, place)
    if arguments.output == "json":
        print(as_json(findings))
    else:
        print(describe(patient.plan, patient.estimate))
        print(as_table(findings))
    return exit_code(findings)


def _termination_log() -> Path | None:
    """Where the last word goes; where torchrun started ranks of their own, one of them speaks for the machine."""
    path = os.environ.get(contract.ENV_TERMINATION_LOG)
    speaks = LAUNCHED in os.environ or os.environ.get("LOCAL_RANK", "0") == "0"
    return Path(path) if path and speaks else None


def _node(job: G2RPOJob, arguments: argparse.Namespace, given: Sequence[str], word: LastWord) -> TerminationReport:
    """Be one of the machines that train together: start its ranks, or be the only rank there is."""
    nodes = Nodes.read(os.environ)
    refuse_other_nodes(job, nodes)
    places = nodes.places(job.spec.workers.processes_per_node)
    word.rank = places[0].rank
    if nodes.rank == 0:
        RunFolder(arguments.runs / job.metadata.name).open(job)
    print(f"{job.metadata.name}: starting {_span(places)}", flush=True)
    if places[0].world_size == 1:
        return _rank(job, places[0], arguments, word)
    return launch([sys.executable, "-m", "g2rpo_trainer", *given], places, word.path)


def _span(places: Sequence[RankEnvironment]) -> str:
    """1 rank, 4 ranks, rank 1 of 2, ranks 4 to 7 of 8."""
    count, of = len(places), places[0].world_size
    plural = "s" if count > 1 else ""
    if count == of:
        return f"{count} rank{plural}"
    to = f" to {places[-1].rank}" if count > 1 else ""
    return f"rank{plural} {places[0].rank}{to} of {of}"


def _rank(job: G2RPOJob, place: RankEnvironment, arguments: argparse.Namespace, word: LastWord) -> TerminationReport:
    """Be one rank, until the run is done or stopped."""
    around, stop = Surroundings.read(os.environ, arguments.runs, arguments.port), StopRequest()
    follow_launcher()
    if place.world_size == 1:  # others first wait for each other, and until then a signal may end them at once
        stop.install()
    _prepare_environment(place)
    from g2rpo_trainer.session import run_job  # noqa: PLC0415  heavy libraries only once the job is right

    return word.ended(run_job(job, place, around, stop, word))


def _prepare_environment(place: RankEnvironment) -> None:
    """What libraries read when they are imported."""
    os.environ.update(place.variables())
    os.environ["HOME"] = str(_home())
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # ranks share cores: more threads each only wait for each other
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("DIFFUSERS_VERBOSITY", "error")
    os.environ.setdefault("DEEPSPEED_LOG_LEVEL", "warning")
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")


def _home() -> Path:
    """Where libraries keep what they compiled or fetched: the user's home, or what there is in a pod without one."""
    homes = (Path(os.path.expanduser("~")), Path(contract.CACHE_DIR))  # noqa: PTH111  pathlib raises where there is none
    return next((home for home in homes if home.is_absolute() and _writable(home)), Path(tempfile.gettempdir()))


def _writable(folder: Path) -> bool:
    return folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="g2rpo-train",
        description="Align a flow-matching image model with rewards, as a G2RPOJob says.",
        epilog="Exit codes: 0 done, 2 invalid job, 3 model or data missing, 4 reward failed, 5 diverged, "
        "6 run folder not writable, 7 another rank was lost, 8 out of memory, 75 checkpointed on SIGTERM (start "
        f"again to go on), 1 a bug (see log.jsonl). When the file that ${contract.ENV_STOP_FILE} names appears, the "
        "run ends early and for good: evaluation, checkpoint, export, report.",
    )
    parser.add_argument("job", type=Path, help="the job, a YAML file with a G2RPOJob")
    parser.add_argument("--check", action="store_true", help="only check the job and say what it will do")
    parser.add_argument("--deep", action="store_true", help="with --check: also load the job and try every part of it")
    parser.add_argument("--output", choices=("table", "json"), default="table", help="how to tell what --check found")
    parser.add_argument(
        "--gpu-memory",
        type=_size,
        metavar="SIZE",
        help="memory of a GPU, such as 80GiB, for --check (default: that of the GPU that is here)",
    )
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


def _size(text: str) -> int:
    try:
        return size_of(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


if __name__ == "__main__":
    sys.exit(main())
