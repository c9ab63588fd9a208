"""A configuration's layers: the YAML files, which are checked here, and the command line on top of them.

A protocol's name stands for its choices: given in one layer, it replaces those of the layers below it. A checkpoint
named alone brings the configuration of its own run.
"""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from qgnet.common.errors import InputError
from qgnet.common.paths import expanded
from qgnet.common.settings import MOVED, RENAMED
from qgnet.common.terminal import say
from qgnet.common.text import read_yaml
from qgnet.config import SUBCOMMANDS
from qgnet.config.shipped import find
from qgnet.runs.folders import CONFIG, checkpoint_run

CONFIG_OPTIONS = ("--config", "-c")
NAME_OPTIONS = ("--data.protocol.name", "--data.init_args.protocol.name")
KEYWORDS = ("last", "best")
"""Of ``--ckpt_path``: checkpoints of a training of the same name."""
CHOICES = ("seed", "episodes")
"""Settings of a DataModule that a protocol decides, besides ``protocol.*``."""
OLD_OPTION = re.compile(rf"(--model\.(?:init_args\.)?)({'|'.join(RENAMED)})(?==|$)")
OLD_CLASS = re.compile(rf"(?<![^=])({'|'.join(map(re.escape, MOVED))})$")


def subcommand_first(arguments: Sequence[str]) -> list[str]:
    """``fit --config FILE …`` for ``--config FILE fit …``, as Lightning's own command takes it, too."""
    at = 0
    while at < len(arguments) and config_option(arguments[at]):
        at += 1 if "=" in arguments[at] else 2
    return [*arguments[at : at + 1], *arguments[:at], *arguments[at + 1 :]]


def prepared(arguments: Sequence[str], subcommand: str) -> list[str]:
    """Arguments for the parser: names of today, and the choices below each protocol's name set to null before it.

    Of a file with sections, such as ``fit:`` and ``test:``, the subcommand's stands in its place. What the layer that
    names the protocol chooses itself, and what later ones choose, stays.
    InputError for a YAML file that `qgnet.common.text.read_yaml` refuses.
    """
    done: list[str] = []
    given: dict[str, Any] = {}
    rest = [OLD_OPTION.sub(lambda found: found[1] + RENAMED[found[2]], argument) for argument in arguments]
    rest = [OLD_CLASS.sub(lambda found: MOVED[found[0]], argument) for argument in rest]
    while any(config_option(argument) for argument in rest):
        argument = rest.pop(0)
        option = config_option(argument)
        words = [argument] if option is None or "=" in argument else [argument, *rest[:1]]
        rest = rest[len(words) - 1 :]
        file = words[-1]
        if option is not None and words != [option]:
            file = find(words[-1].removeprefix(f"{option}="))
            words = [f"{option}={file}"]
        content = content_of(words[-1], option is not None)
        if option is not None:
            if isinstance(content, Mapping) and content and content.keys() <= SUBCOMMANDS.keys():
                content = content.get(subcommand) or {}
                words = [f"{option}={yaml.safe_dump(content, allow_unicode=True)}"]
            layer = chosen(content)
            done += replaced(given, file) if "protocol.name" in layer else []
            given = ({} if "protocol.name" in layer else given) | layer
        done += words
    for argument in rest:
        content_of(argument, False)
    named = any(word.split("=")[0] in NAME_OPTIONS for word in rest)
    return [*done, *(replaced(given, "the command line") if named else []), *rest]


def config_option(argument: str) -> str | None:
    """The option by which an argument names a configuration file, itself or by the next one."""
    option = argument.split("=", maxsplit=1)[0]
    return option if option in CONFIG_OPTIONS else None


def content_of(argument: str, is_config: bool) -> Any:
    """What a file that an argument names says, if it is YAML; what else is wrong with it, the parser reports."""
    path = Path(argument.rpartition("=")[2])
    return read_yaml(path) if (is_config or path.suffix in (".yaml", ".yml")) and path.is_file() else None


def chosen(content: Any) -> dict[str, Any]:
    """What a configuration chooses of a protocol, by the settings' names."""
    data = content.get("data") if isinstance(content, Mapping) else None
    settings = data.get("init_args", data) if isinstance(data, Mapping) else None
    if not isinstance(settings, Mapping):
        return {}
    protocol = settings.get("protocol")
    choices = {f"protocol.{key}": value for key, value in protocol.items()} if isinstance(protocol, Mapping) else {}
    choices |= {key: settings[key] for key in CHOICES if key in settings}
    return {key: value for key, value in choices.items() if value is not None}


def replaced(given: Mapping[str, Any], by: str) -> list[str]:
    """Arguments that set choices to null, which is reported; none for a DataModule without a protocol."""
    choices = {key: value for key, value in given.items() if key != "protocol.name"}
    if choices:
        listed = ", ".join(f"{key} {value}" for key, value in choices.items())
        say(f"The protocol that {by} names replaces data.* of the configurations below: {listed}.")
    own = {key.partition(".")[2]: None for key in choices if key not in CHOICES}
    settings = [f"--data.{key}=null" for key in CHOICES if key in choices]
    return [*([f"--data.protocol={json.dumps(own)}"] if own else []), *settings]


def with_own_config(arguments: Sequence[str]) -> list[str]:
    """The arguments of ``lightning``, with the checkpoint's own ``--config`` if none, nor model and data, is named."""
    checkpoint = value_of("--ckpt_path", arguments)
    named = any(map(config_option, arguments)) or (value_of("--model", arguments) and value_of("--data", arguments))
    if not checkpoint or named or {"-h", "--help"} & set(arguments):
        return list(arguments)
    run = value_of("--run", arguments) if arguments[0] == "fit" and checkpoint in KEYWORDS else None
    if checkpoint in KEYWORDS and not run:
        raise InputError(
            f"--ckpt_path {checkpoint} is that of a training of the same name, which a configuration tells. Name one "
            "(--config FILE.yaml), or give the checkpoint itself: its run's config.yaml is then taken."
        )
    config = (expanded(run) if run else checkpoint_run(expanded(checkpoint))) / CONFIG
    if not config.is_file():
        raise InputError(
            f"--ckpt_path {checkpoint} alone does not tell the settings, as there is no {config}. Name the "
            "configuration of its training: --config FILE.yaml."
        )
    say(f"Settings: {config}")
    return [arguments[0], f"--config={config}", *arguments[1:]]


def value_of(option: str, arguments: Sequence[str]) -> str | None:
    """What the arguments give to an option, as ``OPTION=VALUE`` or ``OPTION VALUE``; the last one counts."""
    found = None
    for argument, following in zip(arguments, [*arguments[1:], ""], strict=True):
        if argument == option:
            found = following
        elif argument.startswith(f"{option}="):
            found = argument.removeprefix(f"{option}=")
    return found
