"""What a check-up found: a list of findings, and how they are told to people and to programs. Pure.

Who calls this: the checks make findings, `doctor.py` and `__main__` tell them.
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Literal

from g2rpo_api.contract import ExitCode
from g2rpo_api.errors import SpecError, show
from g2rpo_trainer.errors import TrainerError

Level = Literal["OK", "Warning", "Error"]
WIDTH, INDENT = 110, 11


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    level: Level
    key: str
    """Key of the job, or what was looked at."""
    reason: str
    """What was found, and what is allowed."""
    remedy: str = ""
    """What to do; empty where all is well."""
    exit_code: int = ExitCode.OK
    """With which the run would end, or ends; OK where it would not."""


def fine(key: str, reason: str) -> Finding:
    """All is well."""
    return Finding("OK", key, reason)


def warning(key: str, reason: str, remedy: str) -> Finding:
    """The run may go on, but should be looked at."""
    return Finding("Warning", key, reason, remedy)


def error(key: str, reason: str, remedy: str, exit_code: ExitCode) -> Finding:
    """The run cannot go well."""
    return Finding("Error", key, reason, remedy, int(exit_code))


def refused(failure: SpecError | TrainerError) -> Iterator[Finding]:
    """What made a job impossible before it could be looked at."""
    if isinstance(failure, SpecError):
        for problem in failure.problems:
            reason = f"{show(problem.found)}; allowed: {problem.allowed}"
            yield error(problem.key, reason, problem.hint, ExitCode.INVALID_SPEC)
    else:
        yield error("job", str(failure), "mend it and check again", failure.exit_code)


def exit_code(findings: Iterable[Finding]) -> int:
    """Of the first error, in order; 0 where there is none."""
    return next((finding.exit_code for finding in findings if finding.level == "Error"), int(ExitCode.OK))


def as_table(findings: Sequence[Finding]) -> str:
    """A block of lines for each finding, and a count."""
    lines = [line for finding in findings for line in _block(finding)]
    errors, warnings = (sum(finding.level == level for finding in findings) for level in ("Error", "Warning"))
    count = f"{len(findings)} checks, {_many(errors, 'error')}, {_many(warnings, 'warning')}"
    return "\n".join(["", "check-up", *lines, f"  {count}"])


def as_json(findings: Sequence[Finding]) -> str:
    """One object with all of them."""
    told = [asdict(finding) for finding in findings]
    return json.dumps({"findings": told, "exitCode": exit_code(findings)}, indent=1)


def _block(finding: Finding) -> list[str]:
    parts = [f"{finding.key}: {finding.reason}", *([finding.remedy] if finding.remedy else [])]
    wrapped = [line for part in parts for line in textwrap.wrap(part, WIDTH - INDENT)]
    first, *rest = wrapped
    return [f"  {finding.level:<{INDENT - 2}}{first}", *(f"{'':{INDENT}}{line}" for line in rest)]


def _many(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"
