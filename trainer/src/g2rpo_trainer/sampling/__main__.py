"""`g2rpo-sample`: prompts drawn by the base model of a run and by the tuned one, side by side.

It reads a run folder: the job for model and sampling, the export for the weights. Heavy libraries are imported
after the options are known to be right, so that a mistake is answered at once.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from g2rpo_api import contract
from g2rpo_api.contract import ExitCode
from g2rpo_api.errors import SpecError
from g2rpo_api.job import G2RPOJob
from g2rpo_api.parse import load_job
from g2rpo_trainer.errors import DataError, TrainerError
from g2rpo_trainer.prompt_files import load_prompts
from g2rpo_trainer.resources import resolve


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; the answer is the process's exit code."""
    arguments = _parser().parse_args(argv)
    try:
        _sample(arguments)
    except SpecError as error:
        print(error, file=sys.stderr)
        return ExitCode.INVALID_SPEC
    except TrainerError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return ExitCode.OK


def _sample(arguments: argparse.Namespace) -> None:
    job, export = _job_of(arguments.run), arguments.run / contract.RUN_EXPORT
    if not export.is_dir():
        raise DataError(
            f"{export} is missing: a run exports its weights when it is done; go on with it, then try again"
        )
    prompts = _prompts(arguments, job)
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("DIFFUSERS_VERBOSITY", "error")
    import torch  # noqa: PLC0415  heavy libraries only once the options are right

    from g2rpo_trainer.logs import hide_progress_bars  # noqa: PLC0415
    from g2rpo_trainer.sampling.side_by_side import Request, draw, write  # noqa: PLC0415

    hide_progress_bars()
    sizes = {name: getattr(arguments, name) for name in ("steps", "height", "width")}
    request = Request.of(job.spec.training, prompts, tuple(arguments.seeds), sizes)
    device = torch.device(arguments.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    grid = write(draw(job.spec.training, export, request, device), request, arguments.output)
    print(f"{grid}: base on the left, tuned on the right")


def _job_of(run: Path) -> G2RPOJob:
    path = run / contract.RUN_JOB
    if not path.is_file():
        raise DataError(f"--run: {run} is not a run folder, it has no {contract.RUN_JOB}; give runs/<job name>")
    return load_job(path)


def _prompts(arguments: argparse.Namespace, job: G2RPOJob) -> tuple[str, ...]:
    texts = list(arguments.prompt)
    if arguments.prompts is not None:
        path = Path(resolve(arguments.prompts))
        texts += [prompt.text for prompt in load_prompts(path, job.spec.training.prompts, "--prompts")]
    if not texts:
        raise DataError("nothing to draw: give --prompt TEXT, once or more, or --prompts FILE")
    return tuple(texts)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="g2rpo-sample",
        description="Draw prompts by the base model of a run and by the tuned one, side by side.",
        epilog="Exit codes: 0 done, 2 command line or job not right, 3 model, prompts or export missing, 6 output not "
        "writable.",
    )
    parser.add_argument("--run", type=Path, required=True, help="run folder, runs/<job name>")
    parser.add_argument("--prompt", action="append", default=[], help="what to draw; may be given again")
    parser.add_argument("--prompts", help="a prompt file, as a job's spec.training.prompts.path")
    parser.add_argument("--output", type=Path, required=True, help="folder for grid.png and a file per picture")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="of the noise, a picture each (default: 0)")
    parser.add_argument("--steps", type=int, help="grid steps (default: those of the job's evaluation)")
    parser.add_argument("--height", type=int, help="pixels (default: the job's)")
    parser.add_argument("--width", type=int, help="pixels (default: the job's)")
    parser.add_argument("--device", help="as torch names it (default: cuda where there is one, else cpu)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
