"""``dataflex regmix fit``: from a table of runs to weights.json, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from dataflex.config.run import RunFile
from dataflex.config.weights_file import read_weights_file
from dataflex.errors import ConfigError
from dataflex_mixers_regmix.cli import main
from dataflex_mixers_regmix.settings import read_settings
from dataflex_mixers_regmix.table import Runs, read_runs

FLOORS = np.array([1.6, 2.0])
SLOPES = np.array([[-1.2, -0.3, 0.5], [0.1, -1.5, -0.4]])


def table() -> Runs:
    mixtures = np.random.default_rng(1).dirichlet((1.8, 0.3, 0.9), 12)
    losses = FLOORS + np.exp(mixtures @ SLOPES.T)
    return Runs(domains=("web", "code", "chat"), sets=("a", "b"), mixtures_NK=mixtures, losses_NM=losses)


@pytest.fixture
def runs_csv(tmp_path: Path) -> Path:
    (tmp_path / "runs.csv").write_text(table().to_csv())
    return tmp_path / "runs.csv"


def test_a_table_is_read_as_it_was_written(runs_csv: Path) -> None:
    found, made = read_runs(runs_csv), table()
    assert (found.domains, found.sets) == (made.domains, made.sets)
    assert found.mixtures_NK == pytest.approx(made.mixtures_NK) and (found.losses_NM == made.losses_NM).all()


def test_a_table_gives_weights_that_from_reads_and_a_plot(runs_csv: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = runs_csv.parent / "out"
    words = ["prior.web=.6", "prior.code=.1", "prior.chat=.3", "tokens={web: 6e9, code: 0.2e9, chat: 3e9}"]
    with pytest.raises(SystemExit) as ended:
        main(["fit", str(runs_csv), *words, "wanted_tokens=2e9", "--out", str(out)])
    assert not ended.value.code
    shares = read_weights_file(
        f"from:{out / 'weights.json'}",
        RunFile(path=out / "run.yaml", ours={}, llamafactory={}, overridden=frozenset()),
        "init",
    ).shares
    assert dict(shares) == pytest.approx({"web": 0.597, "code": 0.4, "chat": 0.003}, abs=0.01)
    found = json.loads((out / "weights.json").read_text())
    assert found["caps"] == pytest.approx([1, 0.4, 1]) and found["rank_correlation"] > 0.9
    assert len(found["runs"]) == 12 and set(found["laws"]) == {"a", "b"}
    assert (out / "predicted.png").read_bytes().startswith(b"\x89PNG")
    assert "web 0.59" in capsys.readouterr().out


def test_targets_alone_count() -> None:
    settings = read_settings({"targets": {"b": 3}, "prior": "uniform"}, "x")
    assert settings.wanted(("web", "code"), ("a", "b")).weights_M.tolist() == [0, 1]
    assert read_settings({"prior": "uniform"}, "x").wanted(("web", "code"), ("a", "b")).weights_M.tolist() == [0.5, 0.5]


def test_without_wanted_tokens_there_are_no_caps_and_by_default_the_prior_is_the_tokens() -> None:
    wanted = read_settings({"tokens": {"code": 1, "web": 3}}, "x").wanted(("web", "code"), ("a",))
    assert wanted.most_K.tolist() == [1, 1] and wanted.prior_K.tolist() == [0.75, 0.25]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], r"prior: tokens .* needs the tokens of each domain"),
        (["priors=uniform"], r"'priors=uniform' .* sets none of.*Did you mean 'prior'"),
        (["prior=unifrom"], r"prior: unifrom .* must be tokens, uniform or.*Did you mean 'uniform'"),
        (["prior={web: 1, code: 1}"], r"prior .* names web, code, but there are web, code, chat"),
        (["prior=uniform", "kl=-1"], r"kl: -1 .* must be a number at least 0"),
        (["prior=uniform", "repeats=0"], r"repeats: 0 .* must be a number above 0"),
        (["prior=uniform", "targets.c=1"], r"targets.c .* is no eval set; there are a, b"),
        (["prior=uniform", "targets.a=-1"], r"targets: .* must hold numbers of at least 0"),
        (["prior=uniform", "tokens=[1]"], r"tokens: \[1\] .* must be a mapping"),
        (["kl"], r"'kl' on the command line sets none of"),
    ],
)
def test_what_cannot_be_meant_is_refused(runs_csv: Path, words: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        main(["fit", str(runs_csv), *words])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "does not exist"),
        ("", "it has no line"),
        ("web,code\n1,0\n", "needs a line a run with a column share_NAME .* it has web, code"),
        ("share_web,share_code,loss_a\n.5,.5,2\n.5,x,2\n", "line 3: share_code is 'x'"),
        ("share_web,share_code,loss_a\n.5,.6,2\n", "line 2: shares have to be at least 0 and sum to 1, not 1.1"),
        ("share_web,share_code,loss_a\n.5,.5\n", "line 2: loss_a is None"),
    ],
)
def test_a_table_that_is_none_is_refused_with_its_line(tmp_path: Path, text: str | None, message: str) -> None:
    path = tmp_path / "runs.csv"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        read_runs(path)
