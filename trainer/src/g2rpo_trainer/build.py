"""The composition root: the only place that sees the whole job and every part of the trainer.

Who calls this: `__main__`, once per process. Nothing is decided here but which part gets which
setting; whatever the job asks for and cannot be had is an error before the first picture.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path

from g2rpo_api.algorithm import G2RPOSettings
from g2rpo_api.errors import SpecError, SpecProblem
from g2rpo_api.job import G2RPOJob
from g2rpo_api.progress import StoppedReport
from g2rpo_api.training import OptimizerSpec, TrainingSpec
from g2rpo_trainer.algorithms.choice import build_algorithm
from g2rpo_trainer.appearance import Album
from g2rpo_trainer.checkpoint import CheckpointStore, TrainState
from g2rpo_trainer.engine import Engine, World
from g2rpo_trainer.errors import DataError
from g2rpo_trainer.evaluation import EvaluationSet, Evaluator
from g2rpo_trainer.flow.schedule import Grid, shifted_grid
from g2rpo_trainer.learning_rate import learning_rate
from g2rpo_trainer.models.loading import compute_precision, find_source, load_family
from g2rpo_trainer.models.protocol import Family, Forward
from g2rpo_trainer.models.source import Source
from g2rpo_trainer.optimizer_settings import OptimizerSettings
from g2rpo_trainer.policy import Model
from g2rpo_trainer.prompt_files import load_prompts
from g2rpo_trainer.prompts import iteration_batch, met_prompts
from g2rpo_trainer.publish import Publisher, Silent
from g2rpo_trainer.records import Prompt
from g2rpo_trainer.reporting.history import outline
from g2rpo_trainer.resources import resolve
from g2rpo_trainer.rewards.registry import build_reward
from g2rpo_trainer.rewards.scoring import Scorer, WeightedReward
from g2rpo_trainer.run import Plan, Run
from g2rpo_trainer.runfolder import RunFolder
from g2rpo_trainer.stop_rules import end_of
from g2rpo_trainer.summary import Constants
from g2rpo_trainer.texts import TextCache, fill_together, text_cache
from g2rpo_trainer.timing import CallLog, Counter, Meter, Stopwatch

logger = logging.getLogger(__name__)

VERSIONED = ("torch", "diffusers", "transformers", "peft", "deepspeed", "g2rpo-trainer")
DEFAULT_PROBES = 8
StopAsked = Callable[[], bool]
EndAsked = Callable[[], StoppedReport | None]


@dataclass(frozen=True)
class Built:
    """A run ready to turn, and where it starts."""

    run: Run
    state: TrainState
    family: Family
    source: Source


def build(
    job: G2RPOJob,
    world: World,
    folder: RunFolder,
    publisher: Publisher | Silent,
    stop: StopAsked,
    end: EndAsked = lambda: None,
) -> Built:
    """Load everything that the job names and take up the newest whole checkpoint.

    `stop` and `end` are asked while it trains: for a checkpoint to go on from, and for an early end.

    Raises:
        SpecError: the number of ranks does not fit the job.
        DataError, RewardError: something that the job names is missing or damaged.
    """
    training, meter = job.spec.training, Meter(world.size)
    _refuse_uneven_ranks(training, world.size)
    prompts = load_prompts(Path(resolve(training.prompts.path)), training.prompts, "spec.training.prompts.path")
    sets = evaluation_sets(training, prompts)
    source = find_source(training.model, world.device)
    texts = text_cache(training, source, Path(training.model.text_cache or folder.texts))
    fill_together(texts, _texts(training, prompts, sets), (world.rank, world.size), world.barrier)
    family = load_family(training, source)
    engine = Engine(
        family.transformer, _optimizer_settings(training), world, compute_precision(training.model), training.ema
    )
    model = _model(training, family, engine.forward, texts)
    rewards = tuple(build_reward(spec, world.device) for spec in training.rewards)
    store = CheckpointStore(folder.checkpoints, training.checkpoint.keep_last, world.rank == 0, world.barrier)
    state = _resume(training, world, engine, store)
    records = world.gather(folder.take_up(state.iteration) if world.rank == 0 else [])[0]
    if records:
        meter.resume(records[-1].spent)
    scorer, stopwatch = _scorer(training, family, tuple(r for r in rewards if r.role == "Train"))
    evaluator = _evaluator(training, model, rewards, (sets, probes(training, prompts)), world)
    publisher.resume(records, [probe.text for probe in evaluator.probes], state.iteration)
    run = Run(
        world=world,
        model=model,
        algorithm=build_algorithm(training, sampling_grid(training, family)),
        engine=engine,
        scorer=scorer,
        evaluator=evaluator,
        batch=lambda iteration: iteration_batch(
            prompts, training.seed, iteration, training.prompts.per_iteration, world.rank, world.size
        ),
        plan=_plan(training),
        constants=_constants(training),
        store=store,
        publisher=publisher,
        stopwatch=stopwatch,
        meter=meter,
        stop_requested=stop,
        end_requested=end,
        end_by_rules=partial(end_of, training),
        learning_rate=partial(learning_rate, training.optimizer, training.iterations),
        history=[outline(record) for record in records],
    )
    return Built(run, state, family, source)


def _plan(training: TrainingSpec) -> Plan:
    return Plan(
        iterations=training.iterations,
        checkpoint_every=training.checkpoint.every_iterations,
        evaluate_every=training.evaluation.every_iterations,
        max_nonfinite_in_a_row=training.safety.max_non_finite_steps,
        keep_best=training.checkpoint.keep_best,
    )


def sampling_grid(training: TrainingSpec, family: Family, steps: int | None = None) -> Grid:
    """The grid of rollouts, or one of another number of steps."""
    sampling = training.sampling
    own = sampling.shift_rule == "Model"
    shift = family.own_shift(sampling.height, sampling.width) if own else sampling.shift
    return shifted_grid(steps or sampling.steps, shift)


def _texts(training: TrainingSpec, prompts: tuple[Prompt, ...], sets: tuple[EvaluationSet, ...]) -> list[str]:
    """Every text that the run meets, once, the same list on every rank."""
    met = met_prompts(prompts, training.seed, training.iterations, training.prompts.per_iteration)
    evaluated = [prompt for group in sets for prompt in group.prompts]
    return list(dict.fromkeys(prompt.text for prompt in (*met, *evaluated, *probes(training, prompts))))


def _refuse_uneven_ranks(training: TrainingSpec, ranks: int) -> None:
    if training.prompts.per_iteration % ranks:
        raise SpecError(
            [
                SpecProblem(
                    key="spec.training.prompts.perIteration",
                    found=str(training.prompts.per_iteration),
                    allowed=f"a multiple of {ranks}, the number of ranks that were started",
                    hint="start another number of ranks, or change it",
                )
            ],
            source="job",
        )


def _optimizer_settings(training: TrainingSpec) -> OptimizerSettings:
    spec: OptimizerSpec = training.optimizer
    return OptimizerSettings(
        learning_rate=spec.learning_rate,
        betas=(spec.betas[0], spec.betas[1]),
        epsilon=spec.epsilon,
        weight_decay=spec.weight_decay,
        gradient_clip=spec.gradient_clip,
        zero_stage=training.deepspeed.zero_stage,
        offload_optimizer=training.deepspeed.offload_optimizer == "CPU",
        offload_parameters=training.deepspeed.offload_parameters == "CPU",
    )


def _model(training: TrainingSpec, family: Family, forward: Forward, texts: TextCache) -> Model:
    sampling = training.sampling
    try:
        shape = family.latent_shape(sampling.height, sampling.width)
    except ValueError as error:
        raise DataError(f"spec.training.sampling.height, width: {error}") from error
    return Model(
        family=family,
        forward=forward,
        device=texts.device,
        latent_shape=shape,
        max_batch=sampling.max_batch,
        truncate_timestep=sampling.truncate_timestep,
        reference=_untrained(family, forward),
        texts=texts,
        counter=Counter(),
    )


def _untrained(family: Family, forward: Forward) -> Callable[[], AbstractContextManager[Forward]]:
    """The model without its adapters, which is what it was before training."""

    @contextmanager
    def without_adapters() -> Iterator[Forward]:
        family.transformer.disable_adapters()  # type: ignore[operator]
        try:
            yield forward
        finally:
            family.transformer.enable_adapters()  # type: ignore[operator]

    return without_adapters


def _scorer(training: TrainingSpec, family: Family, rewards: tuple[WeightedReward, ...]) -> tuple[Scorer, Stopwatch]:
    stopwatch, album = Stopwatch(), Album(family.patch_pixels)
    batch = training.sampling.max_decode_batch
    return Scorer(family.decode, rewards, batch, stopwatch, Counter(), album, CallLog()), stopwatch


def _evaluator(
    training: TrainingSpec,
    model: Model,
    rewards: tuple[WeightedReward, ...],
    drawn: tuple[tuple[EvaluationSet, ...], tuple[Prompt, ...]],
    world: World,
) -> Evaluator:
    """`drawn`: what is scored, and what is only looked at."""
    scorer, _ = _scorer(training, model.family, rewards)
    return Evaluator(
        model=model,
        grid=sampling_grid(training, model.family, training.evaluation.steps),
        seed=training.evaluation.seed,
        scorer=scorer,
        sets=drawn[0],
        probes=drawn[1],
        rank=world.rank,
        world_size=world.size,
        gather=world.gather,
    )


def evaluation_sets(training: TrainingSpec, prompts: tuple[Prompt, ...]) -> tuple[EvaluationSet, ...]:
    """The first training prompts, and those of the held-out file if the job names one.

    Raises:
        DataError: the held-out file is missing or damaged.
    """
    spec = training.evaluation
    seen = EvaluationSet("eval", prompts[: spec.max_prompts])
    if spec.prompts_path is None:
        return (seen,)
    key = "spec.training.evaluation.promptsPath"
    unseen = load_prompts(Path(resolve(spec.prompts_path)), training.prompts, key)
    return (seen, EvaluationSet("unseen", unseen[: spec.max_prompts]))


def probes(training: TrainingSpec, prompts: tuple[Prompt, ...]) -> tuple[Prompt, ...]:
    """Prompts of the picture grid: the job's, or some from all over the training file."""
    own = tuple(Prompt(i, text, {}) for i, text in enumerate(training.evaluation.probes))
    count = min(DEFAULT_PROBES, len(prompts))
    return own or tuple(prompts[i * len(prompts) // count] for i in range(count))


def _constants(training: TrainingSpec) -> Constants:
    settings = training.algorithm.settings
    trained = [reward for reward in training.rewards if reward.role == "Train"]
    return Constants(
        reward_names=tuple(reward.name for reward in trained),
        reward_weights=tuple(reward.weight for reward in trained),
        granularities=settings.granularities if isinstance(settings, G2RPOSettings) else (1,),
        steps=tuple(settings.steps()) if isinstance(settings, G2RPOSettings) else None,
        clip_range=settings.clip_range,
    )


def _resume(training: TrainingSpec, world: World, engine: Engine, store: CheckpointStore) -> TrainState:
    """State of the newest whole checkpoint, loaded into the engine, or a new one."""
    found = world.gather(store.newest() if world.rank == 0 else None)[0]
    if found is None:
        return TrainState(
            iteration=0,
            world_size=world.size,
            zero_stage=training.deepspeed.zero_stage,
            nonfinite_in_a_row=0,
            versions={name: version(name) for name in VERSIONED},
        )
    name, state = found
    engine.load(store.folder, name)
    logger.info("resumed from %s, which %d ranks saved", name, state.world_size)
    return state.model_copy(update={"world_size": world.size, "zero_stage": training.deepspeed.zero_stage})
