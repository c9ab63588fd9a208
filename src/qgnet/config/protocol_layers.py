"""A protocol's name stands for its choices: given on top, it replaces those of the configurations below it."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from qgnet.common.terminal import say

CONFIG_OPTIONS = ("--config", "-c")
NAME_OPTIONS = ("--data.protocol.name", "--data.init_args.protocol.name")
CHOICES = ("seed", "episodes")
"""Settings of a DataModule that a protocol decides, beside ``protocol.*``."""


def name_decides(arguments: Sequence[str]) -> list[str]:
    """The arguments, with the choices below each protocol's name set to null before it.

    A layer is a configuration file, or what the command line says behind the last one. What the layer that names the
    protocol chooses itself, and what later ones choose, stays.

    Args:
        arguments: of ``lightning``, with files as ``--config FILE`` or ``--config=FILE``.
    """
    done: list[str] = []
    given: dict[str, Any] = {}
    rest = list(arguments)
    while any(config_option(argument) for argument in rest):
        argument = rest.pop(0)
        option = config_option(argument)
        words = [argument] if option is None or "=" in argument else [argument, *rest[:1]]
        rest = rest[len(words) - 1 :]
        if option is not None:
            file = words[-1].removeprefix(f"{option}=")
            layer = of_file(file)
            done += replaced(given, file) if "protocol.name" in layer else []
            given = ({} if "protocol.name" in layer else given) | layer
        done += words
    named = any(word.split("=")[0] in NAME_OPTIONS for word in rest)
    return [*done, *(replaced(given, "the command line") if named else []), *rest]


def config_option(argument: str) -> str | None:
    """The option by which an argument names a configuration file, itself or by the next one."""
    option = argument.split("=", maxsplit=1)[0]
    return option if option in CONFIG_OPTIONS else None


def of_file(file: str) -> dict[str, Any]:
    """What a configuration chooses of a protocol, by the settings' names; nothing if jsonargparse will refuse it."""
    try:
        content = yaml.safe_load(Path(file).read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return {}
    data = content.get("data") if isinstance(content, Mapping) else None
    settings = data.get("init_args", data) if isinstance(data, Mapping) else None
    if not isinstance(settings, Mapping):
        return {}
    protocol = settings.get("protocol")
    chosen = {f"protocol.{key}": value for key, value in protocol.items()} if isinstance(protocol, Mapping) else {}
    chosen |= {key: settings[key] for key in CHOICES if key in settings}
    return {key: value for key, value in chosen.items() if value is not None}


def replaced(given: Mapping[str, Any], by: str) -> list[str]:
    """Arguments that set choices to null, which is said; none for a DataModule without a protocol."""
    choices = {key: value for key, value in given.items() if key != "protocol.name"}
    if choices:
        told = ", ".join(f"{key} {value}" for key, value in choices.items())
        say(f"The protocol that {by} names replaces data.* of the configurations below: {told}.")
    own = {key.partition(".")[2]: None for key in choices if key not in CHOICES}
    settings = [f"--data.{key}=null" for key in CHOICES if key in choices]
    return [*([f"--data.protocol={json.dumps(own)}"] if own else []), *settings]
