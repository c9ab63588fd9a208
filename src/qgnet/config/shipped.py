"""The configurations that come with the package, found by their names: ``pascal5i.yaml``, ``heads/hsnet.yaml``."""

from difflib import get_close_matches
from pathlib import Path

from qgnet.common.errors import InputError

PACKAGE = Path(__file__).parents[1]
NAME = "lightning_configs"
FOLDER = next((f for f in (PACKAGE / NAME, PACKAGE.parents[1] / NAME) if f.is_dir()), PACKAGE / NAME)
"""Inside the installed package; in a checkout at its top."""


def shipped() -> dict[str, Path]:
    """Name → file, sorted. A name is the path inside `FOLDER`, with ``/`` on every system."""
    files = {file.relative_to(FOLDER).as_posix(): file for file in FOLDER.rglob("*.yaml")}
    return dict(sorted(files.items(), key=lambda item: (item[0].count("/"), item[0])))


def find(config: str) -> str:
    """The path of a configuration: a user's own file, or else the shipped one of that name.

    Text that is no name of a YAML file is given back as it is; so is the path of a file that exists.

    Args:
        config: what ``--config`` was given. ``lightning_configs/pascal5i.yaml`` names the same file as
            ``pascal5i.yaml``.

    Raises:
        InputError: if there is neither a file nor a shipped configuration of that name.
    """
    if "\n" in config or not config.endswith((".yaml", ".yml")) or Path(config).expanduser().exists():
        return config
    files = shipped()
    name = config.removeprefix("./").removeprefix(f"{NAME}/")
    if name in files:
        return str(files[name])
    similar = [one for one in files if Path(one).name == name] or get_close_matches(name, files, n=1)
    raise InputError(
        f"--config is {config}; there is no such file, and no configuration of that name comes with qgnet. "
        + (f"Did you mean {similar[0]}? " if similar else "Give a YAML file. ")
        + "`qgnet configs` lists those that come with it."
    )


def summary(file: Path) -> str:
    """The first sentence of the comment at the top of a configuration, in one line."""
    comment = []
    for line in file.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        comment.append(line.lstrip("# "))
    return " ".join(comment).split(". ")[0].rstrip(".")
