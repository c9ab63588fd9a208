"""README and the pages of the site: short enough, no dead links, and every command in them is one."""

import argparse
import doctest
import re
import shlex
from importlib import import_module
from pathlib import Path

import pytest
import yaml

import datamodules
import qgnet
from qgnet.commands import COMMANDS
from qgnet.config import SUBCOMMANDS

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
PAGES = [README, ROOT / "CONTRIBUTING.md", ROOT / "benchmarks/README.md", *sorted((ROOT / "docs").glob("*.md"))]
GUIDES = [page for page in PAGES if page.parent == ROOT / "docs"]
AVOIDED = {
    "pictures?": "image",
    "(?<!image's )photographs?(?! of scikit)": "image",
    "anew": "again",
    "aloud": "a warning is logged",
    "at hand": "available",
    "of one's own": "of your own",
    "there is none": "no …",
    "never saw": "not seen in training",
    "be it": "whether",
    "say so": "state it",
}
"""Word or phrase (regular expression) → what is written instead."""
FENCE = re.compile(r"^```(.*)$")
LANGUAGES = ("", "bash")


def commands(page: Path) -> list[list[str]]:
    """The words of each `lightning` and `qgnet` command in a page's blocks, without what starts it (`srun`)."""
    language, lines = None, []
    for line in page.read_text().splitlines():
        fence = FENCE.match(line)
        if fence:
            language = fence[1] if language is None else None
        elif language in LANGUAGES:
            lines.append(line)
    found = []
    for line in "\n".join(lines).replace("\\\n", " ").splitlines():
        if line.startswith(("#", "pip", "python", "conda")):
            continue
        plain = re.sub(r"\$\{.*?\}", "", line.replace('"$(command -v lightning)"', "lightning"))
        words = shlex.split(plain, comments=True)
        at = [i for i, word in enumerate(words) if word in ("lightning", "qgnet")]
        if at:
            found.append(words[at[0] :])
    return found


EVERY = [
    pytest.param(words, id=f"{page.relative_to(ROOT)}: {' '.join(words)}") for page in PAGES for words in commands(page)
]


def test_the_readme_is_short() -> None:
    lines = README.read_text().splitlines()
    assert len(lines) <= 150
    assert not [line for line in lines if len(line) > 119]
    first = next(number for number, line in enumerate(lines) if line.startswith("qgnet segment"))
    assert first < 35, "the first result comes on the first screen"
    assert {"make demo", "make test"} <= {line.split("  ")[0] for line in lines}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files(page: Path) -> None:
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    links = [link for link in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in link]
    assert not [link for link in links if link[0] != "#" and not (page.parent / link.partition("#")[0]).exists()]


def test_every_page_is_in_the_sites_table_of_contents() -> None:
    index = (ROOT / "docs/index.md").read_text()
    listed = [line for block in re.findall(r"```{toctree}\n(.*?)```", index, re.DOTALL) for line in block.split("\n")]
    pages = {page.stem for suffix in ("md", "ipynb") for page in (ROOT / "docs").glob(f"*.{suffix}")} - {"index"}
    assert sorted(name for name in listed if name and name[0] != ":") == sorted(pages)


@pytest.mark.parametrize("page", [README, *GUIDES], ids=lambda page: page.name)
def test_a_page_uses_the_words_of_the_field(page: Path) -> None:
    """One word for one thing, and nothing that a reader must decode; what code and file names say does not count."""
    prose = re.sub(r"^```.*?^```$|`[^`]*`", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    found = {word: better for word, better in AVOIDED.items() if re.search(rf"\b{word}\b", prose, re.IGNORECASE)}
    assert not found


@pytest.mark.parametrize("package", [qgnet, datamodules], ids=lambda package: package.__name__)
def test_every_public_name_is_in_the_api(package) -> None:
    page = (ROOT / "docs/api.md").read_text()
    assert set(re.findall(rf":: {package.__name__}\.(\w+)$", page, re.MULTILINE)) == set(package.__all__)


def test_the_version_is_the_same_everywhere() -> None:
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == qgnet.__version__
    assert re.search(rf"^## \[{re.escape(qgnet.__version__)}\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)


def test_there_are_commands_to_look_at() -> None:
    assert len(EVERY) > 50
    named = {parameter.values[0][1] for parameter in EVERY}
    assert named >= {*COMMANDS, *SUBCOMMANDS} - {"validate"}


@pytest.mark.slow
def test_the_examples_of_the_api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are one session: a later one uses the names of those before."""
    monkeypatch.chdir(tmp_path)
    page = (ROOT / "docs/api.md").read_text()
    session = "\n".join(re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL))
    examples = doctest.DocTestParser().get_doctest(session, {}, "docs/api.md", None, 0)
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    said: list[str] = []
    runner.run(examples, out=said.append)
    assert runner.summarize(verbose=False).attempted > 30
    assert not said, "".join(said)


@pytest.mark.slow
@pytest.mark.parametrize("words", EVERY)
def test_a_command_is_accepted(words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its parser takes it, with every setting and the configurations that it names; it is not run."""
    from qgnet.config.command_line import CommandLine  # noqa: PLC0415  (takes seconds to import)
    from qgnet.config.layers import with_own_config  # noqa: PLC0415

    monkeypatch.chdir(tmp_path)
    _, name, *arguments = words
    if name in COMMANDS:
        parser = argparse.ArgumentParser()
        import_module(f"qgnet.commands.{name.replace('-', '_')}").add_parser(parser.add_subparsers())
        options = parser.parse_args([name, *arguments])
        if name not in ("regions", "episodes"):
            return
        of_stage_1 = ["--config", options.config] if name == "regions" else []
        name, arguments = "fit", [*of_stage_1, *options.arguments]
    if arguments[0] == "--config" and arguments[1].startswith("my_configs/"):
        monkeypatch.setattr("qgnet.config.layers.find", lambda config: config.removeprefix("my_configs/"))
        arguments[1] = str(ROOT / "lightning_configs" / arguments[1].removeprefix("my_configs/"))
    if "--config" in arguments:
        assert CommandLine(name, with_own_config([name, *arguments])[1:]).config.config
