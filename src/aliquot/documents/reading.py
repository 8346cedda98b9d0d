"""YAML text to checked documents, and what is wrong with them to errors that name the place."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from typing import Any, Final, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from aliquot.errors import AliquotError, InvalidValueError

_MOST_ERRORS: Final = 5
_NOT_OURS: Final = ("Value error, ", "Assertion failed, ")

_Document = TypeVar("_Document", bound=BaseModel)
_Made = TypeVar("_Made")


class DocumentError(InvalidValueError):
    """A document does not say what it should. The reason names the source and the place in it."""

    code = "invalid-document"


class Strict(BaseModel):
    """A part of a document. Unknown keys are errors: a misspelt one would be a rule that nobody follows."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class _Loader(yaml.SafeLoader):
    """YAML without objects, in which a key may stand only once."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str | int | float | bool | None):
                raise yaml.constructor.ConstructorError(
                    None, None, "a key is a single word", key_node.start_mark
                )
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} stands here twice", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep=deep)


def load_all(text: str, source: str) -> list[Any]:
    """The documents of a YAML text; empty ones are left out. Raises `DocumentError`."""
    try:
        return [each for each in yaml.load_all(text, Loader=_Loader) if each is not None]
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f", line {mark.line + 1}" if mark else ""
        raise DocumentError(f"{source}{place}: {error.problem}", hint="the file is YAML") from error
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise DocumentError(f"{source}: this is not YAML ({error})", hint="the file is YAML") from error


def checked(document: type[_Document], value: Any, source: str) -> _Document:
    """The value as a document of that form. Raises `DocumentError`, which lists the first few faults."""
    if not isinstance(value, dict):
        raise DocumentError(f"{source}: a mapping is expected here, not {type(value).__name__}")
    try:
        return document.model_validate(value)
    except ValidationError as error:
        faults = [_fault(each) for each in error.errors(include_url=False)]
        shown = "; ".join(dict.fromkeys(text for text, _ in faults[:_MOST_ERRORS]))
        hint = next((hint for _, hint in faults if hint), "") or _known_keys(document, error)
        raise DocumentError(f"{source}: {shown}", hint=hint) from error


def in_place(source: str, make: Callable[[], _Made]) -> _Made:
    """What `make` returns; its errors tell the place too. A code of their own is kept."""
    try:
        return make()
    except DocumentError:
        raise
    except AliquotError as error:
        error.reason = f"{source}: {error.reason}"
        raise


def _fault(each: Any) -> tuple[str, str]:
    """The text of one fault, and what to do, if our own parser said it."""
    place = _place(each["loc"])
    cause = each.get("ctx", {}).get("error")
    if isinstance(cause, AliquotError):
        return f"{place}: {cause.reason}", cause.hint
    message = each["msg"]
    for prefix in _NOT_OURS:
        message = message.removeprefix(prefix)
    if each["type"] == "extra_forbidden":
        message = "there is no such key"
    return f"{place}: {message[:1].lower()}{message[1:]}", ""


def _place(location: Iterable[str | int]) -> str:
    """`nodes[3].devices[0]`, without the names that pydantic gives to the alternatives of a union."""
    place = ""
    for each in location:
        if isinstance(each, int):
            place += f"[{each}]"
        elif each.isidentifier() and each.islower():
            place += f".{each}" if place else each
    return place or "the document"


def _known_keys(document: type[BaseModel], error: ValidationError) -> str:
    extra = [each for each in error.errors() if each["type"] == "extra_forbidden" and len(each["loc"]) == 1]
    return f"known keys: {', '.join(document.model_fields)}" if extra else ""
