"""Pool, eval sets, validation set."""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections import Counter

import pytest

from dataflex.demo import corpus, dataset
from dataflex.demo.row import Domain, Row
from dataflex.demo.settings import Settings
from dataflex.errors import ConfigError

SETTINGS = Settings(pool=200, evaluation=20, validation=10, others=12, batch=4, warmup=5, update=10)


def made_rows(**counts: int) -> list[Row]:
    """Rows of which ten share an origin, domains alternating as far as they reach."""
    columns = [
        [
            Row(domain, f"{domain}{index // 10}", f"{domain} {index}?", f"{domain} answer {index}")
            for index in range(count)
        ]
        for domain, count in ((Domain(name), count) for name, count in counts.items())
    ]
    return [row for group in itertools.zip_longest(*columns) for row in group if row]


@pytest.fixture
def plenty() -> list[Row]:
    return made_rows(docstrings=300, source=300, packages=300, licences=300)


def test_the_pool_has_the_shares_of_the_recipe(plenty):
    counts = Counter(row.domain for row in corpus.split(plenty, SETTINGS).pool)
    assert counts == {Domain.DOCSTRINGS: 30, Domain.SOURCE: 70, Domain.PACKAGES: 60, Domain.LICENCES: 40}


def test_no_module_or_package_is_on_two_sides(plenty):
    splits = corpus.split(plenty, SETTINGS).splits()
    origins = {name: {row.origin for row in rows} for name, rows in splits.items()}
    for one, other in itertools.combinations(origins, 2):
        assert not origins[one] & origins[other], (one, other)


def test_no_module_gives_more_than_six_evaluation_rows(plenty):
    splits = corpus.split(plenty, SETTINGS)
    for rows in (splits.docstrings, splits.validation, splits.others):
        assert max(Counter(row.origin for row in rows).values()) <= 6


def test_evaluation_sets_have_the_size_and_domains_asked_for(plenty):
    splits = corpus.split(plenty, SETTINGS)
    assert [row.domain for row in splits.docstrings] == [Domain.DOCSTRINGS] * 20
    assert [row.domain for row in splits.validation] == [Domain.DOCSTRINGS] * 10
    assert Counter(row.domain for row in splits.others) == {
        Domain.SOURCE: 4,
        Domain.PACKAGES: 4,
        Domain.LICENCES: 4,
    }


def test_a_machine_with_few_licences_gets_a_smaller_pool_with_the_same_shares():
    rows = made_rows(docstrings=300, source=300, packages=300, licences=30)
    counts = Counter(row.domain for row in corpus.split(rows, SETTINGS).pool)
    assert counts[Domain.LICENCES] == 20  # ten of thirty go with the package that is evaluated
    assert sum(counts.values()) == 100
    assert counts[Domain.SOURCE] == 35


def test_too_little_text_is_an_error_that_names_the_domain_and_the_need():
    rows = made_rows(docstrings=300, source=300, packages=8, licences=300)
    with pytest.raises(ConfigError, match=r"at least 40 rows.*only 8 rows of the domain packages"):
        corpus.split(rows, SETTINGS)


def test_the_corpus_of_this_machine_is_a_function_of_the_seed():
    quick = Settings.choose(1, quick=True)
    rows = corpus.read_rows(quick)
    assert rows == corpus.read_rows(quick)
    assert rows != corpus.read_rows(dataclasses.replace(quick, seed=2))
    assert all(row.question and row.answer for row in rows)
    assert len({row.answer for row in rows}) == len(rows)


def test_the_side_file_names_the_domain_of_each_line(plenty, tmp_path):
    dataset.write(tmp_path, corpus.split(plenty, SETTINGS).splits())
    info = json.loads((tmp_path / "dataset_info.json").read_text())
    assert {"pool", "docstrings", "others", "validation", "pool_source"} <= set(info)
    for name, entry in info.items():
        lines = [json.loads(line) for line in (tmp_path / entry["file_name"]).read_text().splitlines()]
        domains = dataset.read_domains(tmp_path, name)
        assert [line["output"].split()[0] for line in lines] == domains
        assert all(set(line) == {"instruction", "input", "output"} for line in lines)
