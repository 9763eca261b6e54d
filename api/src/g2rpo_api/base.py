"""What every model of the job shares: how it reads, how it refuses, and the Kubernetes kind of union.

Who calls this: the models beside it. Where its business ends: it knows no field of the job.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    Strict,
    ValidationError,
    ValidationInfo,
    model_serializer,
    model_validator,
)
from pydantic_core import InitErrorDetails, PydanticCustomError

T = TypeVar("T")
Loc = tuple[str | int, ...]

Items = Annotated[tuple[T, ...], Strict(False)]
"""A list in YAML, a tuple in Python; its items stay strict."""
Count = Annotated[int, Field(ge=0)]
Positive = Annotated[int, Field(ge=1)]
NonNegativeFloat = Annotated[float, Field(ge=0)]
PositiveFloat = Annotated[float, Field(gt=0)]
Text = Annotated[str, Field(min_length=1)]

STRUCTURE_ONLY = "structure only"
"""Validation context that leaves the checks across fields to `all_faults`."""


def camel(name: str) -> str:
    """flow_grpo -> flowGrpo; g2rpo stays g2rpo."""
    head, *tail = name.split("_")
    return head + "".join(word.capitalize() for word in tail)


@dataclass(frozen=True)
class Fault:
    """A value that is fine alone and wrong beside another."""

    at: Loc
    """YAML keys from the model that found it down to the value."""
    found: Any
    allowed: str
    hint: str

    def details(self) -> InitErrorDetails:
        """As a line of a pydantic error."""
        context = {"allowed": self.allowed, "hint": self.hint}
        kind = PydanticCustomError("fault", "must be {allowed}; {hint}", context)
        return InitErrorDetails(type=kind, loc=self.at, input=self.found)


class Model(BaseModel):
    """Frozen, strict, camelCase in YAML and snake_case in Python; unknown keys are refused."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        alias_generator=camel,
        validate_by_name=True,
        validate_by_alias=True,
        use_attribute_docstrings=True,
        allow_inf_nan=False,
    )

    exactly_one: ClassVar[tuple[str, ...]] = ()
    """Optional fields of which exactly one is given, where a model has such."""

    def faults(self) -> Iterator[Fault]:
        """What is wrong between the fields of this model (not inside them)."""
        yield from ()

    @model_validator(mode="after")
    def _refuse_faults(self, info: ValidationInfo) -> Any:
        if info.context == STRUCTURE_ONLY:
            return self
        faults = list(self.faults())
        if faults:
            raise ValidationError.from_exception_data(type(self).__name__, [fault.details() for fault in faults])
        return self


def all_faults(model: Model, at: Loc = ()) -> Iterator[Fault]:
    """Faults of a model and of all models in it, with key paths from the outermost one."""
    for fault in model.faults():
        yield replace(fault, at=at + fault.at)
    for name, info in type(model).model_fields.items():
        value = getattr(model, name)
        here = (*at, info.alias or name)
        if isinstance(value, Model):
            yield from all_faults(value, here)
        elif isinstance(value, tuple):
            for index, item in enumerate(value):
                if isinstance(item, Model):
                    yield from all_faults(item, (*here, index))


class Union(Model):
    """One of several variants, the Kubernetes way: `type` names it, one optional member per variant.

    The member that `type` names may be left out, which means its defaults; any other is refused.
    """

    members: ClassVar[Mapping[str, str | None]]
    """Value of `type` -> attribute with the variant's settings (None: the variant has none)."""

    type: str
    """Which variant."""

    @property
    def member(self) -> str:
        """YAML key of the settings that `type` names; empty where the variant has none."""
        return camel(self.members[self.type] or "")

    @model_validator(mode="before")
    @classmethod
    def _fill_member(cls, data: Any) -> Any:
        if not isinstance(data, Mapping):
            return data
        kind = data.get("type")
        name = cls.members.get(kind) if isinstance(kind, str) else None
        if name is None:
            return data
        key = name if name in data else camel(name)
        return {**data, key: {}} if data.get(key) is None else data

    @model_serializer(mode="wrap")
    def _leave_out_other_members(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        fields: dict[str, Any] = handler(self)
        absent = {name for name in self.members.values() if name is not None and getattr(self, name) is None}
        return {key: value for key, value in fields.items() if key not in absent | {camel(name) for name in absent}}

    def faults(self) -> Iterator[Fault]:
        """A member of another variant than the one that `type` names."""
        for variant, name in self.members.items():
            if name is None or variant == self.type or getattr(self, name) is None:
                continue
            allowed = f"absent when type is {self.type}"
            place = f" (settings of {self.type} go under {self.member})" if self.member else ""
            hint = f"remove it, or set type: {variant}{place}"
            yield Fault((camel(name),), getattr(self, name).model_dump(by_alias=True), allowed, hint)


def exactly_one_faults(model: Model, *, none_too: bool = False) -> Iterator[Fault]:
    """Faults of a model whose `exactly_one` names fields of which one must be given.

    Args:
        model: of a class that names them.
        none_too: whether giving none of them is fine, too.
    """
    given = [camel(name) for name in model.exactly_one if getattr(model, name) is not None]
    choices = ", ".join(map(camel, model.exactly_one))
    if len(given) > 1:
        for name in given[1:]:
            allowed = f"absent when {given[0]} is given: one of {choices}"
            yield Fault((name,), f"{name} beside {given[0]}", allowed, "remove one of them")
    elif not given and not none_too:
        yield Fault((), "none of them", f"exactly one of {choices}", "add one")


def repeated_faults(items: str, key: str, values: Sequence[str]) -> Iterator[Fault]:
    """Faults of a list whose items are told apart by a key, for each value that occurs again.

    Args:
        items: YAML key of the list.
        key: YAML key in each of its items.
        values: what the items have there.
    """
    for index, value in enumerate(values):
        if value in values[:index]:
            first = values.index(value)
            hint = f"{items}[{first}] has the same {key}: change or remove one of them"
            yield Fault((items, index, key), value, f"unique among the {items}", hint)
