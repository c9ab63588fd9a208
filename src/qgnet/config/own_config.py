"""The configuration of a checkpoint's own run, for a command that names the checkpoint alone."""

from collections.abc import Sequence

from qgnet.common.errors import InputError
from qgnet.common.paths import expanded
from qgnet.common.terminal import say
from qgnet.config.layers import config_option
from qgnet.runs.folders import CONFIG, checkpoint_run

KEYWORDS = ("last", "best")


def with_own_config(arguments: Sequence[str]) -> list[str]:
    """The arguments of ``lightning``, with the checkpoint's own ``--config`` if none, nor model and data, is named.

    Raises:
        InputError: if a checkpoint is named without a configuration, and none lies beside its run.
    """
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
