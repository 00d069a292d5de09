"""Which rows are kept, and what is refused before anything is scored."""

from __future__ import annotations

import json

import numpy as np
import pytest

from dataflex.bridge.origins import Source
from dataflex.data.origins import Origins
from dataflex.errors import ConfigError
from dataflex.pool_scores.keep import Keep, write_dataset

SCORES = np.array([0.5, np.nan, 3.0, np.inf, 3.0, -1.0])
KNOWN = Origins(("only",), np.zeros(6, np.int64), np.arange(6))


@pytest.mark.parametrize(
    ("keep", "rows"),
    [
        (Keep("--keep 1", rows=1), [2]),  # of equal scores the first
        (Keep("--keep 3", rows=3), [0, 2, 4]),  # in the pool's order
        (Keep("--keep-top 0.5", share=0.5), [0, 2, 4]),
        (Keep("--keep-top 0.4", share=0.4), [2, 4]),  # 2.4 rows are 2
        (Keep("--keep 4", rows=4), [0, 2, 4, 5]),  # never one without a finite score
    ],
)
def test_the_highest_scores_are_kept(keep, rows):
    assert keep.choose(SCORES).tolist() == rows


def test_more_rows_than_have_a_score_are_refused():
    with pytest.raises(ConfigError, match="keeps 5 rows, but 4 of 6 have a score"):
        Keep("--keep 5", rows=5).choose(SCORES)


@pytest.mark.parametrize(("rows", "share"), [(0, None), (-1, None), (None, 0.0), (None, 1.5), (None, float("nan"))])
def test_numbers_out_of_range_are_refused(rows, share):
    with pytest.raises(ConfigError):
        Keep("--keep", rows=rows, share=share)


@pytest.mark.parametrize(
    ("rows", "origins", "params", "said"),
    [
        (7, KNOWN, {}, "keeps 7 rows of a pool of 6"),
        (3, KNOWN, {"max_candidates": 2}, "max_candidates=2 scores fewer"),
        (3, None, {}, "packing: false"),
    ],
)
def test_what_cannot_be_kept_is_known_from_the_pool(rows, origins, params, said):
    with pytest.raises(ConfigError, match=said):
        Keep(f"--keep {rows}", rows=rows).check(6, origins, params)
    Keep("--keep 2", rows=2).check(6, KNOWN, {"max_candidates": 2})


def test_sets_whose_names_differ_in_what_no_file_name_holds_keep_files_of_their_own(tmp_path):
    class Raw(list):
        def select(self, rows):
            return [self[row] for row in rows]

    names = ("team/web", "team_web", "team web")
    sources = [Source(name, Raw([{"text": name}]), {}, {}) for name in names]
    origins = Origins(names, np.arange(3), np.zeros(3, np.int64))
    assert write_dataset(tmp_path / "kept", np.arange(3), origins, sources) == dict.fromkeys(names, 1)
    info = json.loads((tmp_path / "kept" / "dataset_info.json").read_text())
    for name in names:
        assert json.loads((tmp_path / "kept" / info[name]["file_name"]).read_text()) == {"text": name}
