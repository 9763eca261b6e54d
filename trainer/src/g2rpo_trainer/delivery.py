"""What a finished run hands over: weights, verified, with a model card.

Who calls this: the session, on all ranks. Each step is a module of its own; here is their order.
"""

from __future__ import annotations

import logging
from importlib.metadata import version
from pathlib import Path

from g2rpo_api import contract
from g2rpo_api.job import G2RPOJob
from g2rpo_trainer.build import VERSIONED, Built
from g2rpo_trainer.checkpoint import name_of
from g2rpo_trainer.export import export_card, export_weights
from g2rpo_trainer.models.loading import compute_precision
from g2rpo_trainer.reporting.card import Facts, model_card, read_base
from g2rpo_trainer.reporting.history import best_iteration
from g2rpo_trainer.run import Run
from g2rpo_trainer.runfolder import RunFolder
from g2rpo_trainer.verification import Verdict, drawn_by_trainer, verify

logger = logging.getLogger(__name__)


def deliver(job: G2RPOJob, folder: RunFolder, built: Built) -> None:
    """Export the trained weights, or their running mean where one is kept. The model cannot be used afterwards.

    With `checkpoint.keepBest` they are those of the best evaluation.

    Raises:
        StorageError: the disk is full or not writable.
    """
    run, training, export = built.run, job.spec.training, folder.path / contract.RUN_EXPORT
    iteration = _take_up_the_best(run)
    with run.engine.mean_weights():
        drawn = drawn_by_trainer(run)
        with run.engine.whole_weights():
            if run.world.rank == 0:
                export_weights(built.family, training.model.train.type == "LoRA", export)
    if run.world.rank == 0:
        if run.model.device.type == "cuda":
            built.family.transformer.to("meta")  # room for the stock pipeline's
        verdict = verify(run, built.source, export, drawn, compute_precision(training.model))
        pictures = _pictures(folder, iteration)
        facts = Facts(
            iteration=iteration,
            base=read_base(training.model.path, built.source.folder),
            pipeline=built.source.kind.__name__,
            sigmas=run.evaluator.grid.sigmas[:-1],
            versions={name: version(name) for name in VERSIONED},
            verified=_verified(verdict, drawn.text),
            pictures=tuple(pictures),
        )
        export_card(export, model_card(job, folder.records(), facts), pictures)
    run.world.barrier()


def _take_up_the_best(run: Run) -> int:
    """Load the checkpoint of the best evaluation where it is kept; the iteration of the weights. All ranks call it."""
    last = run.history[-1].iteration
    best = best_iteration(run.history) if run.plan.keep_best else None
    if best is None or best == last:
        return last
    whole = run.world.gather(run.store.whole(best) if run.world.rank == 0 else None)[0]
    if not whole:
        logger.warning("the checkpoint of iteration %d, whose evaluation was best, is gone: the last is exported", best)
        return last
    run.engine.load(run.store.folder, name_of(best))
    logger.info("exporting iteration %d, whose evaluation was best", best)
    return best


def _pictures(folder: RunFolder, iteration: int) -> dict[str, Path]:
    """The curve, and the probes before and after: at the latest until `iteration`."""
    samples = sorted((folder.path / contract.RUN_SAMPLES).glob("iter-*.png"))
    found = {contract.RUN_CURVE_SVG: folder.path / contract.RUN_CURVE_SVG}
    drawn = [path for path in samples if path.stem <= name_of(iteration)]
    if drawn:
        found |= {"before.png": drawn[0], "after.png": drawn[-1]}
    return {name: path for name, path in found.items() if path.is_file()}


def _verified(verdict: Verdict, text: str) -> str:
    if verdict.problem:
        return f"**Not verified**: {verdict.problem}."
    within = f"but for {verdict.difference:.1e} per pixel of [0, 1]" if verdict.difference else "to the last bit"
    return f"For “{text}” the stock pipeline with these weights draws the trainer's picture, {within}."
