"""What can end a run other than a bug, each with the exit code that an operator reads.

Raised anywhere below `__main__`, turned into one message and one exit code there. A message names the
key of the job (or the file and line), what was found, and what to do.
"""

from __future__ import annotations

from g2rpo_api.contract import ExitCode


class TrainerError(Exception):
    """A run that cannot go on, for a reason that a user can act on."""

    exit_code = ExitCode.BUG


class DataError(TrainerError):
    """A model, a prompt file or a checkpoint is missing or damaged."""

    exit_code = ExitCode.MISSING_DATA


class RewardError(TrainerError):
    """A reward raised, or answered with non-finite scores, and its policy is to fail."""

    exit_code = ExitCode.REWARD_FAILED


class DivergedError(TrainerError):
    """Too many optimizer steps in a row had a non-finite loss or gradient."""

    exit_code = ExitCode.DIVERGED


class PortError(TrainerError):
    """The port that was asked for cannot be listened on."""

    exit_code = ExitCode.INVALID_SPEC


class StorageError(TrainerError):
    """The run folder cannot be written: full, read-only or not ours."""

    exit_code = ExitCode.STORAGE


class OutOfMemoryError(TrainerError):
    """Memory of a GPU, or of the machine, is not enough."""

    exit_code = ExitCode.OUT_OF_MEMORY


class PeerLostError(TrainerError):
    """Another rank is gone: what happened is told there, not here."""

    exit_code = ExitCode.PEER_LOST
