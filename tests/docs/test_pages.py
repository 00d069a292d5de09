"""The pages name every hook, key and field there is, as the code has them."""

from __future__ import annotations

import inspect
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from transformers.modeling_outputs import CausalLMOutput

from dataflex.checkpoint_keys.groups import Effect
from dataflex.checkpoint_keys.keys import GROUPS
from dataflex.components.context import RunContext
from dataflex.config.run import OUR_KEYS
from dataflex.decisions import Decision
from dataflex.plugins import hookspecs
from dataflex.runs import TrainType
from dataflex.spec import Kind
from dataflex.study.file_keys import KEYS
from dataflex.testing import make_context
from dataflex.testing.checks import checks_for

ROOT = Path(__file__).parents[2]
PLUGINS = (ROOT / "docs/plugins.md").read_text(encoding="utf-8")
CONFIGURATION = (ROOT / "docs/configuration.md").read_text(encoding="utf-8")
HOOKS = [name for name in vars(hookspecs) if name.startswith("dataflex_")]


@pytest.mark.parametrize("hook", HOOKS)
def test_a_hook_is_documented_with_its_exact_signature(hook: str) -> None:
    signature = str(inspect.signature(getattr(hookspecs, hook))).replace("'", "")
    assert f"def {hook}{signature}: ..." in PLUGINS


def test_no_hook_is_documented_that_does_not_exist() -> None:
    assert set(re.findall(r"\bdataflex_\w+(?=\()", PLUGINS)) == set(HOOKS)


def test_every_key_of_a_run_file_has_a_section_and_no_section_is_left_over() -> None:
    assert sorted(re.findall(r"^### `(\w+)`$", CONFIGURATION, re.MULTILINE)) == sorted(OUR_KEYS)


def test_every_check_of_the_conformance_kit_is_documented_and_no_other() -> None:
    section = PLUGINS.partition("## Checking a component")[2].partition("\n## ")[0]
    documented = re.findall(r"`(\w+)`", " ".join(re.findall(r"^\| (`[^|]+) \|", section, re.MULTILINE)))
    checks = {check.name for kind in Kind for check in checks_for(kind)}
    assert set(documented) == checks


def test_what_may_change_at_a_resume_is_documented_as_the_list_of_keys_has_it() -> None:
    page = (ROOT / "docs/resume.md").read_text(encoding="utf-8")
    section = page.partition("## What may change")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| ([^|]+) \| (`[^|]+) \| ([^|]+) \|$", section, re.MULTILINE)
    documented = {(title, effect, tuple(re.findall(r"`([^`]+)`", keys))) for title, keys, effect in rows}
    assert documented == {(group.title, group.effect.value, group.keys) for group in GROUPS}
    assert [effect.value for effect in Effect if f"**{effect.value}**" not in section] == []


def test_every_train_type_is_documented() -> None:
    assert [train_type for train_type in TrainType if f"`{train_type}`" not in CONFIGURATION] == []


def test_every_field_of_a_decision_is_documented() -> None:
    page = (ROOT / "docs/selecting.md").read_text(encoding="utf-8")
    table = page.partition("## What is recorded")[2].partition("\n## ")[0]
    cells = re.findall(r"^\| (`[^|]+) \|", table, re.MULTILINE)
    assert sorted(re.findall(r"`(\w+)`", " ".join(cells))) == sorted(Decision.__dataclass_fields__)


def test_every_kind_of_component_is_in_the_glossary() -> None:
    page = (ROOT / "docs/glossary.md").read_text(encoding="utf-8")
    assert [kind for kind in Kind if f"| **{kind}** |" not in page] == []


def _write_example_package(folder: Path) -> None:
    """The package of docs/plugins.md, installed the way pip leaves it."""
    blocks = re.findall(r"^```(?:python|toml)\n# (\S+)\n(.*?)^```$", PLUGINS, re.MULTILINE | re.DOTALL)
    files = {name: text for name, text in blocks if "/" in name or name == "pyproject.toml"}
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    section = files["pyproject.toml"].partition('[project.entry-points."dataflex.components"]\n')[2]
    entry_points = section.replace('"', "")
    info = folder / "my_selectors-0.1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my-selectors\nVersion: 0.1.0\n", encoding="utf-8")
    (info / "entry_points.txt").write_text(f"[dataflex.components]\n{entry_points}", encoding="utf-8")


def _dataflex(folder: Path, *arguments: str) -> object:
    code = f"import sys; sys.path.append({str(folder)!r}); from dataflex.cli.app import main; main()"
    command = [sys.executable, "-c", code, *arguments, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_example_package_is_listed_and_shows_its_parameters(tmp_path: Path) -> None:
    _write_example_package(tmp_path)
    listed = {row["name"]: row for row in _dataflex(tmp_path, "list-components")}  # type: ignore[attr-defined]
    assert (listed["shortest"]["dist"], listed["shortest"]["status"]) == ("my-selectors", "loaded")
    shown = _dataflex(tmp_path, "show-component", "shortest")
    assert [row["name"] for row in shown["params"]] == ["share"]  # type: ignore[index]


def test_the_example_selector_draws_from_the_shortest_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _write_example_package(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    from my_selectors.params import ShortestParams  # type: ignore[import-not-found]
    from my_selectors.selector import Shortest  # type: ignore[import-not-found]

    pool = [{"input_ids": [0] * length} for length in (9, 1, 8, 2, 7, 3, 6, 4)]
    context = RunContext(dataset=pool, data_collator=list, cache_dir=tmp_path)  # type: ignore[arg-type]
    selection = Shortest(ShortestParams(share=0.5), context).select(None, 20, 3)
    assert set(selection.rows) <= {1, 3, 5, 7}
    assert len(np.unique(selection.rows)) == 3


def test_the_example_of_a_score_gives_the_highest_loss_of_a_target() -> None:
    (block,) = re.findall(
        r"^```python\n(import torch\n.*?def hardest_token.*?)^```$", PLUGINS, re.MULTILINE | re.DOTALL
    )
    names: dict[str, Any] = {}
    exec(block, names)  # noqa: S102 - of our own page

    class Halves(torch.nn.Module):
        """After token 0 both tokens are as likely; after token 1, token 0 has probability e / (1 + e) = .731."""

        def forward(self, input_ids: torch.Tensor, attention_mask: Any = None) -> CausalLMOutput:
            return CausalLMOutput(logits=torch.stack([input_ids.float(), torch.zeros(input_ids.shape)], dim=-1))

    pool = [
        {"input_ids": [0, 1, 0], "attention_mask": [1, 1, 1], "labels": [-100, 1, 0]},
        {"input_ids": [0, 1, 1], "attention_mask": [1, 1, 1], "labels": [-100, 1, 1]},
        {"input_ids": [0, 1, 1], "attention_mask": [1, 1, 1], "labels": [-100, -100, -100]},
    ]

    def collator(rows: Any) -> dict[str, torch.Tensor]:
        return {name: torch.tensor([row[name] for row in rows]) for name in rows[0]}

    found = make_context(pool, collator).score(Halves(), range(3), names["hardest_token"])
    np.testing.assert_allclose(found.values, [0.693147, 1.313262, np.nan], rtol=1e-5)


def test_the_rooms_meant_for_authors_are_those_that_the_contract_names() -> None:
    config = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]
    (contract,) = [each for each in config["contracts"] if each["type"] == "author_rooms"]
    section = PLUGINS.partition("### What a package may import")[2].partition("\n## ")[0]
    sentence = section.partition("meant for authors: ")[2].partition(". The packages")[0]
    named = [name.removeprefix("dataflex.") for name in re.findall(r"`([\w.]+)`", sentence)]
    assert named == [room.removeprefix("dataflex.") for room in contract["rooms"]]
    assert sorted(contract["authors"]) == sorted(name for name in config["root_packages"] if name != "dataflex")


def test_every_key_of_a_study_file_is_documented_as_the_reader_knows_it() -> None:
    page = (ROOT / "docs/study.md").read_text(encoding="utf-8")
    section = page.partition("## The keys")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `(\w+)` \| `(.+?)` \| (.+?) \| (.+) \|$", section, re.MULTILINE)
    documented = [(name, kind.replace("\\|", "|"), default.strip("*"), text) for name, kind, default, text in rows]
    assert documented == [(key.name, key.type, key.default, key.help) for key in KEYS]


def test_the_numbers_on_the_page_of_studies_are_those_that_scipy_gives() -> None:
    page = (ROOT / "docs/study.md").read_text(encoding="utf-8")
    random, arm = ((4.70, 4.90, 4.60, 4.80, 5.00), (4.65, 4.84, 4.57, 4.73, 4.96))
    assert all(f"{value:.2f}" in page for value in (*random, *arm))
    assert f"p = {stats.ttest_rel(random, arm).pvalue:.1g}" in page
    assert f"says {stats.ttest_ind(random, arm, equal_var=False).pvalue:.2g}" in page
