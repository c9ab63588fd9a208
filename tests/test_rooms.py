"""Each room knows only the rooms before it, so that it can be read, and changed, without those after it."""

import ast
import re
from collections.abc import Iterator
from configparser import ConfigParser
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ROOMS = [
    "qgnet.common",
    "datamodules.files",
    "datamodules.prepare",
    "datamodules.datasets",
    "datamodules.episodes",
    "datamodules.views",
    "datamodules",
    "qgnet.networks",
    "qgnet.losses",
    "qgnet.runs",
    "qgnet.metrics",
    "qgnet.weights",
    "qgnet.tasks",
    "qgnet.config",
    "qgnet.released",
    "qgnet.loggers",
    "qgnet.outputs",
    "qgnet.inference",
    "qgnet.callbacks",
    "qgnet.web",
    "qgnet",
    "qgnet.cli",
    "qgnet.start",
    "qgnet.commands",
]
MODULES = {
    ".".join(path.relative_to(folder).with_suffix("").parts).removesuffix(".__init__"): path
    for folder, package in ((ROOT, "datamodules"), (ROOT / "src", "qgnet"))
    for path in sorted((folder / package).rglob("*.py"))
}
LONGEST = 350
"""Lines of a file."""


def room(module: str) -> str:
    """The folder, or the file of its own, that a module lies in."""
    return max((name for name in ROOMS if f"{module}.".startswith(f"{name}.")), key=len)


def imported(path: Path, with_types: bool = True) -> Iterator[str]:
    """Modules of this project that a file names, at its top or inside a function."""
    tree = ast.parse(path.read_text())
    for_types = [n for n in ast.walk(tree) if isinstance(n, ast.If) and ast.unparse(n.test) == "TYPE_CHECKING"]
    left_out = {inner for block in for_types if not with_types for inner in ast.walk(block)}
    for node in (node for node in ast.walk(tree) if node not in left_out):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.module:
            inner = [f"{node.module}.{alias.name}" for alias in node.names]
            names += [name if name in MODULES else node.module for name in inner]
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "import_module":
            names += [argument.value for argument in node.args if isinstance(argument, ast.Constant)]
        yield from (name for name in names if name.split(".")[0] in ("qgnet", "datamodules"))


@pytest.mark.parametrize("module", MODULES)
def test_a_file_imports_from_its_own_room_and_those_before_it(module: str) -> None:
    own = ROOMS.index(room(module))
    later = [name for name in imported(MODULES[module]) if ROOMS.index(room(name)) > own]
    assert not later, f"{module} imports {later}, whose rooms come after its own"


def test_the_table_for_contributors_has_the_same_order() -> None:
    rows = re.findall(r"^\| (`.+?`) \| ", (ROOT / "CONTRIBUTING.md").read_text(), re.MULTILINE)
    named = [name.removesuffix(".py") for row in rows for name in re.findall(r"`(.+?)`", row)]
    assert [x if x.startswith(("qgnet", "datamodules")) else f"qgnet.{x}" for x in named] == ROOMS


def test_modules_do_not_import_each_other_in_a_circle() -> None:
    """Neither at their top nor in functions; what only types need is left aside."""
    runs = {module: set(imported(path, with_types=False)) - {module} for module, path in MODULES.items()}
    TopologicalSorter(runs).prepare()  # CycleError names the circle


def test_the_pages_modules_do_not_import_each_other_in_a_circle() -> None:
    scripts = {path.name: path.read_text() for path in (ROOT / "src/qgnet/web/static").glob("*.js")}
    imports = {name: re.findall(r'from "\./(.+)";', text) for name, text in scripts.items()}
    assert "stage.js" in imports["tools.js"]
    TopologicalSorter(imports).prepare()  # CycleError names the circle


@pytest.mark.parametrize("files", ["datamodules/*.py", "src/*.py", "src/*.js", "tests/*.py", "benchmarks/*.py"])
def test_no_file_is_too_long_to_read(files: str) -> None:
    folder, names = files.split("/")
    lengths = {str(path): len(path.read_text().splitlines()) for path in (ROOT / folder).rglob(names)}
    assert lengths
    assert not {path: length for path, length in lengths.items() if length > LONGEST}


def test_every_package_is_installed() -> None:
    """An editable install finds them all; a wheel holds those that setup.cfg lists."""
    config = ConfigParser()
    config.read(ROOT / "setup.cfg")
    listed = [line for line in config["options"]["packages"].split("\n") if line and not line.startswith("#")]
    packages = {name for name, path in MODULES.items() if path.name == "__init__.py"}
    assert sorted(listed) == sorted([*packages, "qgnet.lightning_configs"])
