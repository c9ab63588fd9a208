"""Text files of users: UTF-8, and YAML without duplicate names."""

from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from qgnet.common.errors import InputError


class OnceLoader(yaml.SafeLoader):
    """A safe loader that refuses duplicate names; YAML itself would take the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """As any mapping; YAMLError if two of its keys are equal."""
        marks: dict[Any, yaml.Mark] = {}
        for key, _ in node.value:
            if key.tag == "tag:yaml.org,2002:merge":
                continue
            name = self.construct_object(key, deep=True)
            if not isinstance(name, Hashable):
                continue  # refused below
            if name in marks:
                raise yaml.constructor.ConstructorError(
                    None, None, f"{name!r} stands here and in line {marks[name].line + 1}", key.start_mark
                )
            marks[name] = key.start_mark
        return super().construct_mapping(node, deep)


def read_text(path: Path) -> str:
    """The content of a text file; InputError if it is not in UTF-8."""
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path} is not a text file in UTF-8 ({error.reason} at byte {error.start}). Save it as UTF-8, or "
            "give another."
        ) from None


def read_yaml(path: Path) -> Any:
    """The content of a YAML file; InputError if it is not YAML in UTF-8, has a duplicate name, or contains itself."""
    try:
        text = read_text(path)
        refuse_loops(text)
        return yaml.load(text, OnceLoader)
    except yaml.YAMLError as error:
        raise InputError(f"{path} cannot be read as YAML: {error}. Correct it.") from None
    except RecursionError:
        raise InputError(f"{path} cannot be read as YAML: it is nested too deeply. Correct it.") from None


def refuse_loops(text: str) -> None:
    """YAMLError if an anchor (``&x``) contains a reference (``*x``) to itself, be it by a merge (``<<``)."""
    within: list[str | None] = []
    for event in yaml.parse(text, yaml.SafeLoader):
        if isinstance(event, yaml.CollectionStartEvent):
            within.append(event.anchor)
        elif isinstance(event, yaml.CollectionEndEvent):
            within.pop()
        elif isinstance(event, yaml.AliasEvent) and event.anchor in within:
            raise yaml.YAMLError(f"it contains itself (*{event.anchor} stands within &{event.anchor})")
