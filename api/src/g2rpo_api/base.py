"""What every model of the job shares: how it reads, how it refuses, and the Kubernetes kind of union.

Who calls this: the models beside it. Where its business ends: it knows no field of the job.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cache
from types import NoneType
from typing import Annotated, Any, ClassVar, TypeVar, get_args

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    Strict,
    ValidationError,
    ValidationInfo,
    model_serializer,
    model_validator,
)
from pydantic.fields import FieldInfo

from g2rpo_api import rules as checks
from g2rpo_api.rules import Fault, Loc, Rule, Spelling

T = TypeVar("T")
WORDS = "x-words"
"""Keyword of the JSON schema: a pattern in words."""
MAX_INT32 = 2**31 - 1
"""Largest integer of most keys, as is usual in Kubernetes."""
MAX_INT64 = 2**63 - 1
MAX_FLOAT_INT = 2.0**53 - 1
"""Largest float that stands for one integer only."""


def whole(value: Any) -> Any:
    """16.0 is the integer 16, as in JSON; anything else is left as it is."""
    exact = type(value) is float and value.is_integer() and abs(value) <= MAX_FLOAT_INT
    return int(value) if exact else value


def without_nulls(value: Any) -> Any:
    """A mapping without its empty values, which the API server drops."""
    return {key: item for key, item in value.items() if item is not None} if isinstance(value, Mapping) else value


WITHOUT_NULLS = BeforeValidator(without_nulls)
"""Last annotation of every mapping with free keys."""
Items = Annotated[tuple[T, ...], Strict(False)]
"""A list in YAML, a tuple in Python; its items stay strict."""
WHOLE = BeforeValidator(whole)
"""Last annotation of every integer."""
Count = Annotated[int, Field(ge=0, le=MAX_INT32), WHOLE]
Positive = Annotated[int, Field(ge=1, le=MAX_INT32), WHOLE]
Seed = Annotated[int, Field(ge=0, le=MAX_INT64), WHOLE]
NonNegativeFloat = Annotated[float, Field(ge=0)]
PositiveFloat = Annotated[float, Field(gt=0)]
Text = Annotated[str, Field(min_length=1)]


def spelled(pattern: str, most: int, words: str, **keywords: Any) -> Any:
    """What a text looks like: as a pattern for machines, in words for people.

    Args:
        pattern: from ^ to $, in the syntax that Go and Rust share.
        most: characters.
        words: what the pattern says.
        keywords: further keywords of the JSON schema.
    """
    return Field(pattern=pattern, max_length=most, json_schema_extra={WORDS: words, **keywords})


STRUCTURE_ONLY = "structure only"
"""Validation context that leaves the checks across fields to `all_faults`."""


@cache
def camel(name: str) -> str:
    """flow_grpo -> flowGrpo; g2rpo stays g2rpo."""
    head, *tail = name.split("_")
    return head + "".join(word.capitalize() for word in tail)


def _add_rules(schema: dict[str, Any], model: type[Model]) -> None:
    """Put into a model's JSON schema what the API server shall check between its fields."""
    rules = [rule.schema() for rule in model.all_rules()]
    if rules:
        schema["x-kubernetes-validations"] = rules
    for items, key in model.unique.items():
        keys = {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": [camel(key)]}
        schema["properties"][camel(items)].update(keys)


class Model(BaseModel):
    """Frozen, strict, camelCase in YAML and snake_case in Python; unknown keys are refused.

    A null counts as left out wherever there is a default, as with the API server.
    """

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        alias_generator=camel,
        validate_by_name=True,
        validate_by_alias=True,
        use_attribute_docstrings=True,
        allow_inf_nan=False,
        json_schema_extra=_add_rules,
    )

    exactly_one: ClassVar[tuple[str, ...]] = ()
    """Optional fields of which exactly one is given, where a model has such."""
    at_most_one: ClassVar[tuple[str, ...]] = ()
    """Optional fields of which one or none is given."""
    unique: ClassVar[Mapping[str, str]] = {}
    """Lists whose items are told apart: the list's field -> the field of its items."""
    free_keys: ClassVar[Mapping[str, Spelling]] = {}
    """Mappings whose keys users name themselves."""
    rules: ClassVar[tuple[Rule, ...]] = ()
    """What `faults` checks, for the API server; also what may change."""

    null_is_unset: ClassVar[frozenset[str]]
    """YAML keys whose null counts as left out."""

    @classmethod
    def __pydantic_init_subclass__(cls, **_: Any) -> None:
        """Find the keys whose null counts as left out."""
        cls.null_is_unset = frozenset(info.alias or "" for info in cls.model_fields.values() if _drops_null(info))

    def faults(self) -> Iterator[Fault]:
        """What else is wrong between the fields of this model (not inside them)."""
        yield from ()

    def own_faults(self) -> Iterator[Fault]:
        """Everything that is wrong between the fields of this model."""
        for fields, required in ((self.exactly_one, True), (self.at_most_one, False)):
            given = [camel(name) for name in fields if getattr(self, name) is not None]
            yield from checks.choice_faults(given, [camel(name) for name in fields], required=required)
        for items, key in self.unique.items():
            values = [getattr(item, key) for item in getattr(self, items)]
            yield from checks.repeated_faults(camel(items), camel(key), values)
        for mapping, spelling in self.free_keys.items():
            yield from checks.key_faults(camel(mapping), getattr(self, mapping), spelling)
        yield from self.faults()

    @classmethod
    def all_rules(cls) -> Iterator[Rule]:
        """`own_faults` for the API server."""
        for fields, required in ((cls.exactly_one, True), (cls.at_most_one, False)):
            yield from checks.choice_rules([camel(name) for name in fields], required=required)
        for mapping, spelling in cls.free_keys.items():
            yield checks.key_rule(camel(mapping), spelling)
        yield from cls.rules

    @model_validator(mode="before")
    @classmethod
    def _leave_out_nulls(cls, data: Any) -> Any:
        if not isinstance(data, Mapping):
            return data
        return {key: value for key, value in data.items() if value is not None or key not in cls.null_is_unset}

    @model_validator(mode="after")
    def _refuse_faults(self, info: ValidationInfo) -> Any:
        if info.context == STRUCTURE_ONLY:
            return self
        faults = list(self.own_faults())
        if faults:
            raise ValidationError.from_exception_data(type(self).__name__, [fault.details() for fault in faults])
        return self


def _drops_null(info: FieldInfo) -> bool:
    """Whether there is a default, and null is not a value of its own beside it."""
    if info.is_required():
        return False
    return info.default is None or NoneType not in get_args(info.annotation)


def all_faults(model: Model, at: Loc = ()) -> Iterator[Fault]:
    """Faults of a model and of all models in it, with key paths from the outermost one."""
    for fault in model.own_faults():
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


def _needs_keys(annotation: Any) -> bool:
    """Whether the model in `X | None` has a required field."""
    models = (part for part in get_args(annotation) if isinstance(part, type) and issubclass(part, Model))
    return any(info.is_required() for model in models for info in model.model_fields.values())


class Union(Model):
    """One of several variants, the Kubernetes way: `type` names it, one optional member per variant.

    The member that `type` names may be left out, which means its defaults, unless it has keys without defaults; any
    other is refused.
    """

    members: ClassVar[Mapping[str, str | None]]
    """Value of `type` -> attribute with the variant's settings (None: the variant has none)."""

    type: str
    """Which variant."""

    @property
    def member(self) -> str:
        """YAML key of the settings that `type` names; empty where the variant has none."""
        return camel(self.members[self.type] or "")

    @classmethod
    def needed_members(cls) -> frozenset[str]:
        """Attributes of settings that have keys without defaults, so that they cannot be left out."""
        named = filter(None, cls.members.values())
        return frozenset(name for name in named if _needs_keys(cls.model_fields[name].annotation))

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

    def own_faults(self) -> Iterator[Fault]:
        """Also a member of another variant than the one that `type` names."""
        for variant, name in self.members.items():
            if name is None or variant == self.type or getattr(self, name) is None:
                continue
            allowed = f"absent when type is {self.type}"
            place = f" (settings of {self.type} go under {self.member})" if self.member else ""
            hint = f"remove it, or set type: {variant}{place}"
            yield Fault((camel(name),), getattr(self, name).model_dump(by_alias=True), allowed, hint)
        yield from super().own_faults()

    @classmethod
    def all_rules(cls) -> Iterator[Rule]:
        """`own_faults` for the API server."""
        members = {variant: name and camel(name) for variant, name in cls.members.items()}
        yield from checks.member_rules(members, {camel(name) for name in cls.needed_members()})
        yield from super().all_rules()
