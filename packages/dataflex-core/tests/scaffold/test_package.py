"""A new component package is complete, and its names follow from one."""

from __future__ import annotations

import ast
import sys
import tarfile
import tomllib
from pathlib import Path

import pytest
import yaml
from hatchling.builders.sdist import SdistBuilder
from packaging.requirements import Requirement

from dataflex import __version__
from dataflex.cli.app import main
from dataflex.errors import ConfigError
from dataflex.scaffold.names import Names
from dataflex.scaffold.package import write_package
from dataflex.spec import Kind


def write(kind: Kind, folder: Path, name: str = "two-words") -> Path:
    names = Names(kind, name)
    write_package(names, folder)
    return folder / names.dist


def test_names_follow_from_kind_and_name() -> None:
    names = Names(Kind.SELECTOR, "two-words")
    assert (names.dist, names.module, names.stem) == ("two-words-selector", "two_words_selector", "TwoWords")
    assert Names(Kind.MIXER, "under_score").dist == "under-score-mixer"


@pytest.mark.parametrize("name", ["", "Upper", "2nd", "a b", "a/b", "a--b", "ends-", "class", "ünder", "../up"])
def test_a_name_that_cannot_be_a_module_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="cannot be the name of a new selector"):
        Names(Kind.SELECTOR, name)


@pytest.mark.parametrize("kind", Kind)
def test_a_package_holds_everything_and_no_place_is_left_open(kind: Kind, tmp_path: Path) -> None:
    names = Names(kind, "two-words")
    written = {str(path) for path in write_package(names, tmp_path)}
    module = f"src/two_words_{kind}"
    assert written == {
        ".github/workflows/tests.yml",
        ".gitignore",
        "README.md",
        "examples/run.yaml",
        "pyproject.toml",
        f"tests/test_two_words_{kind}.py",
        *(f"{module}/{name}" for name in ("__init__.py", "params.py", "plugin.py", "py.typed", f"{kind}.py")),
    }
    for path in written:
        text = (tmp_path / names.dist / path).read_text(encoding="utf-8")
        assert "@{" not in text
        if path.endswith(".py"):
            ast.parse(text)
        if path.endswith((".yml", ".yaml")):
            assert yaml.safe_load(text)


@pytest.mark.parametrize("kind", Kind)
def test_its_metadata_names_the_plugin_and_this_core(kind: Kind, tmp_path: Path) -> None:
    project = tomllib.loads((write(kind, tmp_path) / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["entry-points"]["dataflex.components"] == {"two-words": f"two_words_{kind}.plugin"}
    core = Requirement(project["dependencies"][0])
    assert core.name == "dataflex-core"
    assert __version__ in core.specifier
    assert {specifier.operator for specifier in core.specifier} == {">=", "<"}


@pytest.mark.parametrize("kind", Kind)
def test_its_metadata_names_every_library_that_it_imports(kind: Kind, tmp_path: Path) -> None:
    folder = write(kind, tmp_path)
    project = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    imported: set[str] = set()
    for path in folder.glob("src/*/*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                imported |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                imported.add(node.module.partition(".")[0])
    needed = imported - set(sys.stdlib_module_names) - {f"two_words_{kind}", "dataflex"}
    assert {Requirement(item).name for item in project["dependencies"]} - {"dataflex-core"} == needed


def test_what_a_run_leaves_does_not_get_into_a_source_distribution(tmp_path: Path) -> None:
    folder = write(Kind.SELECTOR, tmp_path)
    for name in ("runs/two-words/model.safetensors", "tiny/model/model.safetensors"):
        (folder / name).parent.mkdir(parents=True)
        (folder / name).write_text("large", encoding="utf-8")
    archive = next(iter(SdistBuilder(str(folder)).build(directory=str(tmp_path / "dist"))))
    with tarfile.open(archive) as packed:
        assert not [name for name in packed.getnames() if "safetensors" in name]


def test_a_folder_that_holds_something_is_left_alone(tmp_path: Path) -> None:
    folder = write(Kind.SELECTOR, tmp_path)
    (folder / "README.md").write_text("mine", encoding="utf-8")
    with pytest.raises(ConfigError, match="two-words-selector exists already"):
        write(Kind.SELECTOR, tmp_path)
    assert (folder / "README.md").read_text(encoding="utf-8") == "mine"


def test_the_command_prints_the_files_and_the_next_three_commands(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["new-component", "mixer", "even", "--out", str(tmp_path / "my work")])
    assert not stopped.value.code
    files, _, after = capfd.readouterr().out.partition("\nNext:\n")
    assert all(Path(line).is_file() for line in files.splitlines())
    assert after.splitlines() == [
        f"  cd '{tmp_path}/my work/even-mixer' && pip install -e '.[test]'",
        "  dataflex check-component even --kind mixer",
        "  python -m dataflex.testing.tiny tiny && dataflex train examples/run.yaml",
    ]
