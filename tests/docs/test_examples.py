"""The run files under ``examples/`` pass every check that needs no model, and name components that exist."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path

import pytest

from dataflex.config.plan import prepare
from dataflex.config.run import check_known_keys, read_run_file
from dataflex.phases.project_file import read_project
from dataflex.plugins.manager import PluginManager
from dataflex.plugins.options import PluginOptions
from dataflex.runs import TrainType

ROOT = Path(__file__).parents[2]
RUN_FILES = sorted(ROOT.glob("examples/train_*/*.yaml"))
PRESETS = re.findall(r"^  (\w+):", (ROOT / "examples/components.yaml").read_text(encoding="utf-8"), re.MULTILINE)
MIXES = sorted(ROOT.glob("examples/mix_lora/*.yaml"))
WEIGHTED = sorted(ROOT.glob("examples/weight_lora/*.yaml"))
SCREENED = sorted(ROOT.glob("examples/screen_lora/*.yaml"))
ORDERED = sorted(ROOT.glob("examples/order_lora/*.yaml"))
every_run_file = pytest.mark.parametrize("path", RUN_FILES, ids=lambda path: str(path.relative_to(ROOT)))


@pytest.fixture
def plugins(monkeypatch: pytest.MonkeyPatch) -> PluginManager:
    monkeypatch.chdir(ROOT)
    return PluginManager.load(PluginOptions(files=(ROOT / "examples/custom_selector.py",)))


def test_lora_and_full_have_a_run_file_for_each_selector() -> None:
    selectors = sorted(
        path.parent.name.replace("-", "_") for path in ROOT.glob("packages/dataflex-selectors/*/pyproject.toml")
    )
    for folder in ("train_lora", "train_full"):
        assert [path.stem for path in RUN_FILES if path.parent.name == folder] == selectors


@every_run_file
def test_a_run_file_names_a_component_that_exists(path: Path, plugins: PluginManager) -> None:
    run = read_run_file(path)
    assert run.train_type is TrainType.SELECT
    prepared = prepare(run, plugins)
    assert prepared.entry.spec.name == {"quality": "ifd"}.get(path.stem, path.stem)
    assert prepared.facts.arguments["output_dir"].endswith(f"{path.parent.name.removeprefix('train_')}/{path.stem}")


@every_run_file
def test_the_comment_on_the_steps_is_right(path: Path, plugins: PluginManager) -> None:
    steps = prepare(read_run_file(path), plugins).facts.steps
    total = steps.warmup + steps.update * steps.times
    sentence = f"{steps.warmup} + {steps.update} * {steps.times} = {total} optimizer steps"
    assert sentence in path.read_text(encoding="utf-8")


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_of_components_yaml_can_be_chosen(preset: str, plugins: PluginManager) -> None:
    run = read_run_file(ROOT / "examples/train_lora/loss.yaml", [f"component_name={preset}"])
    assert prepare(run, plugins).entry.spec.name == {"easy": "loss"}.get(preset, preset)


def test_there_is_a_mix_for_each_mixer_and_one_without() -> None:
    folders = [path.parents[2].name for path in ROOT.glob("packages/dataflex-mixers/*/src/*/plugin.py")]
    mixers = [folder.replace("-", "_") for folder in folders]
    assert [path.stem for path in MIXES] == sorted([*mixers, "static"])


@pytest.mark.parametrize("path", MIXES, ids=lambda path: path.stem)
def test_a_mix_names_a_mixer_that_exists(path: Path, plugins: PluginManager) -> None:
    prepared = prepare(read_run_file(path), plugins)
    assert prepared.entry.spec.name == path.stem and prepared.mixture is not None
    assert prepared.facts.arguments["output_dir"].endswith(f"lora/mix-{path.stem}")


def test_there_is_a_run_file_for_each_weighter() -> None:
    weighters = [path.parent.name for path in ROOT.glob("packages/dataflex-weighters/*/pyproject.toml")]
    assert [path.stem for path in WEIGHTED] == sorted(weighters)


@pytest.mark.parametrize("path", WEIGHTED, ids=lambda path: path.stem)
def test_a_weighted_run_file_names_a_weighter_that_exists(path: Path, plugins: PluginManager) -> None:
    prepared = prepare(read_run_file(path), plugins)
    assert prepared.facts.train_type is TrainType.WEIGHT and prepared.entry.spec.name == path.stem
    assert prepared.facts.arguments["output_dir"].endswith(f"lora/weight-{path.stem}")


@pytest.mark.parametrize("path", ORDERED, ids=lambda path: path.stem)
def test_a_run_file_in_order_names_an_orderer_that_exists(path: Path, plugins: PluginManager) -> None:
    prepared = prepare(read_run_file(path), plugins)
    assert prepared.facts.train_type is TrainType.ORDER and prepared.entry.spec.name == path.stem
    assert prepared.facts.arguments["output_dir"].endswith(f"lora/order-{path.stem}")


def test_a_screened_run_file_can_fill_its_stages_and_says_what_it_costs(plugins: PluginManager) -> None:
    (path,) = SCREENED
    prepared = prepare(read_run_file(path), plugins)
    (part,) = prepared.parts
    assert part.screen is not None and part.screen.title == "screen lexical of selector less"
    assert prepared.facts.arguments["output_dir"].endswith(f"lora/screen-{path.stem}")
    steps, params = prepared.facts.steps, part.bound.values
    chosen = steps.update * prepared.facts.samples_per_step // params["passes"]
    assert (steps.warmup, steps.update, steps.times, chosen) == (20, 60, 1, 80)
    screen, aims = params["screen"], params["max_validation"]
    assert screen["survivors"] >= 2 * chosen
    assert screen["survivors"] + screen["agreement"] + 2 * aims == 32 * 8


@pytest.mark.slow
def test_llamafactory_knows_every_other_key_of_the_run_files() -> None:
    from dataflex.bridge.llamafactory import known_keys

    known = known_keys()
    for path in [*RUN_FILES, *MIXES, *WEIGHTED, *SCREENED, *ORDERED]:
        check_known_keys(read_run_file(path), known)


def test_projects_of_regmix_and_mixmin_can_be_planned() -> None:
    for name, runs in (("regmix", 23), ("mixmin", 3)):
        path = ROOT / "examples" / name / "run.yaml"
        plan = import_module(f"dataflex_mixers_{name}.plan").plan_project(read_project(path, [], name), path)
        assert len(plan.phases) == runs
