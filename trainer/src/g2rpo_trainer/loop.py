"""The outer loop: sample, judge, improve, write down.

Who calls this: `__main__`, with a `Run` that build put together. It names no algorithm, no model and
no library; one iteration consumes a batch of prompts and produces one record, and leaves only at a
point from which the run can be taken up again.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from g2rpo_api.progress import StoppedReport
from g2rpo_trainer.appearance import group_diversities
from g2rpo_trainer.checkpoint import TrainState
from g2rpo_trainer.errors import DivergedError
from g2rpo_trainer.exhaustion import memory_held
from g2rpo_trainer.first_step import verify_first_step
from g2rpo_trainer.journal import EvaluationEntry, IterationRecord
from g2rpo_trainer.policy import BoundPolicy
from g2rpo_trainer.records import Experience, LossStats
from g2rpo_trainer.reporting.history import best_iteration, outline
from g2rpo_trainer.run import Plan, Run
from g2rpo_trainer.summary import Frame, RankReport, UpdateStats, iteration_record, untrained_record
from g2rpo_trainer.timing import Pace, RankState


@dataclass(frozen=True)
class Learnt:
    """What an iteration consumed and changed on this rank."""

    experience: Experience
    update: UpdateStats
    state: TrainState
    pace: Pace


def train(run: Run, state: TrainState) -> bool:
    """Train from `state` to the last iteration, or to the one after which an early end was asked for.

    Returns:
        True when done, False when a stop was asked for; either way the last state is checkpointed.

    Raises:
        TrainerError: a reward failed, training diverged, or the disk refused.
    """
    if not run.history:
        _publish(run, _untrained(run))
    if (stopped := _early_end(run, state.iteration)) is not None:
        run.publisher.amend(_evaluated(run, run.history[-1]).evaluation, stopped)
        return True
    for iteration in range(state.iteration + 1, run.plan.iterations + 1):
        started = time.perf_counter()
        learnt = learn(run, iteration, state)
        if learnt is None:
            _checkpoint(run, state)
            return False
        state = learnt.state
        evaluation = _evaluate(run, iteration) if run.plan.evaluation_due(iteration) else []
        record = _record(run, learnt, _frame(run, iteration, evaluation, started))
        stopped = _early_end(run, iteration, record)
        if stopped:
            record = _evaluated(run, record).model_copy(update={"stopped": stopped})
        _publish(run, record)
        if stopped or run.plan.checkpoint_due(iteration) or _best(run) == iteration:
            _checkpoint(run, state)
        if stopped:
            break
    return True


def learn(run: Run, iteration: int, state: TrainState) -> Learnt | None:
    """One iteration: sample and judge a batch of prompts, then improve the policy.

    Returns:
        None when a stop was asked for before anything was changed.
    """
    if _stopping(run):
        return None
    batch = run.batch(iteration)
    policy = run.model.on([prompt.text for prompt in batch.prompts])
    began = time.perf_counter()
    with run.stopwatch.phase("rollout"):
        experience = run.algorithm.collect(policy, batch, run.scorer)
    drawn = time.perf_counter()
    stopping = _stopping(run)
    pace = Pace(drawn - began, time.perf_counter() - drawn)
    if stopping:  # the rollout is given up: nothing has been learnt from it yet
        return None
    with run.stopwatch.phase("train"):
        update, state = _improve(run, policy, experience, state)
    return Learnt(experience, update, state, pace)


def _stopping(run: Run) -> bool:
    """Whether some rank was asked to stop; the same answer on every rank."""
    return run.world.any(run.stop_requested())


def _early_end(run: Run, iteration: int, *record: IterationRecord) -> StoppedReport | None:
    """Why the run ends after this iteration, which is not the last; the same answer on every rank."""
    if iteration >= run.plan.iterations:
        return None
    mine = run.end_requested() or run.end_by_rules([*run.history, *record])
    if not run.world.any(mine is not None):
        return None
    stopped = next(reason for reason in run.world.gather(mine) if reason is not None)
    run.publisher.ending(stopped)
    return stopped


def _evaluated(run: Run, record: IterationRecord) -> IterationRecord:
    """The record of the last iteration with an evaluation, which belongs to an end."""
    if record.evaluation:
        return record
    started = time.perf_counter()
    evaluation = _evaluate(run, record.iteration)
    seconds = record.step_seconds + time.perf_counter() - started
    phases = record.seconds | run.stopwatch.take()
    return record.model_copy(update={"evaluation": evaluation, "step_seconds": seconds, "seconds": phases})


def _improve(
    run: Run, policy: BoundPolicy, experience: Experience, state: TrainState
) -> tuple[UpdateStats, TrainState]:
    """One pass over the losses; an optimizer step at each boundary."""
    losses: list[LossStats] = []
    norms: list[float] = []
    rate = run.learning_rate(state.iteration + 1)
    run.engine.set_learning_rate(rate)
    skipped, in_a_row = 0, state.nonfinite_in_a_row
    for loss in run.algorithm.losses(policy, experience):
        run.engine.backward(loss.value)
        losses.append(loss.stats)
        if not loss.boundary:
            continue
        step = run.engine.step()
        if step.applied:
            norms.append(step.grad_norm)
            in_a_row = 0
        else:
            skipped, in_a_row = skipped + 1, in_a_row + 1
        _refuse_divergence(in_a_row, run.plan)
    run.engine.update_mean(state.iteration + 1)
    after = state.model_copy(update={"iteration": state.iteration + 1, "nonfinite_in_a_row": in_a_row})
    update = UpdateStats(losses, norms, skipped, rate)
    verify_first_step(update, run.constants.clip_range, warn=state.iteration == 0)
    return update, after


def _refuse_divergence(in_a_row: int, plan: Plan) -> None:
    if in_a_row > plan.max_nonfinite_in_a_row:
        raise DivergedError(
            f"{in_a_row} optimizer steps in a row had a loss or gradient that is not finite (allowed: "
            f"spec.training.safety.maxNonFiniteSteps = {plan.max_nonfinite_in_a_row}); the weights are those before "
            "them. Lower optimizer.learningRate or optimizer.gradientClip and start a new run"
        )


def _record(run: Run, learnt: Learnt, frame: Frame) -> IterationRecord:
    """The iteration over all ranks."""
    rows, images, taken = run.model.counter.take(), run.scorer.counter.take(), run.scorer.album.take()
    looks = (taken.values, group_diversities(taken))
    state = RankState(run.world.rank, run.world.machine, learnt.pace, memory_held(run.world.device))
    calls = [*run.evaluator.scorer.calls.take(), *run.scorer.calls.take()]
    mine = RankReport(learnt.experience.rollout, learnt.update, rows, images, *looks, state, calls)
    reports = run.world.gather(mine)
    run.publisher.ranked([report.state for report in reports])
    run.publisher.asked([call for report in reports for call in report.calls])
    return iteration_record(frame, reports, run.constants)


def _publish(run: Run, record: IterationRecord) -> None:
    run.publisher.publish(record)
    run.history.append(outline(record))


def _frame(run: Run, iteration: int, evaluation: list[EvaluationEntry], started: float) -> Frame:
    return Frame(
        iteration=iteration,
        time=time.time(),
        attempt=run.publisher.attempt,
        world_size=run.world.size,
        seconds=run.stopwatch.take(),
        step_seconds=time.perf_counter() - started,
        evaluation=evaluation,
        spent=run.meter.read(),
    )


def _evaluate(run: Run, iteration: int) -> list[EvaluationEntry]:
    """Scores and probe pictures, by the mean weights where one is kept; their calls do not count as rollout."""
    run.publisher.evaluating()
    with run.stopwatch.phase("eval"), run.model.counter.paused(), run.engine.mean_weights():
        entries = run.evaluator.scores()
        run.publisher.pictures(iteration, run.evaluator.pictures())
    return entries


def _untrained(run: Run) -> IterationRecord:
    started = time.perf_counter()
    return untrained_record(_frame(run, 0, _evaluate(run, 0), started))


def _best(run: Run) -> int | None:
    """The iteration whose checkpoint is kept for its evaluation; None where none is."""
    return best_iteration(run.history) if run.plan.keep_best else None


def _checkpoint(run: Run, state: TrainState) -> None:
    started = time.perf_counter()
    run.publisher.saving()
    with run.stopwatch.phase("checkpoint"):
        run.store.save(state, run.engine.save, _best(run))
    run.publisher.checkpointed(state.iteration, time.perf_counter() - started)
