"""The search over architectures: who is trained how long, and who ends on the front."""

import pytest

from components.shared.errors import InvalidInput
from pipelines.commands.search import _sizes, _table
from pipelines.search import Budget, Candidate, keeps, mark_front, pairs, shares
from pipelines.search_report import write_report


def done(name: str, milliseconds: float, score: float, epochs: int = 8) -> Candidate:
    return Candidate(name, 192, int8_mb=3.0, int8_ms=milliseconds, epochs=epochs, map_50_95=score)


@pytest.mark.parametrize(
    "epochs, rungs, added", [(24, 3, [6, 6, 12]), (1, 3, [1]), (100, 1, [100]), (7, 3, [2, 2, 3]), (3, 4, [1, 1, 1])]
)
def test_every_rung_doubles_and_the_last_ends_at_what_the_recipe_says(epochs: int, rungs: int, added: list) -> None:
    assert shares(epochs, rungs) == added and sum(added) == epochs


def test_a_budget_of_zero_sets_no_limit() -> None:
    one = done("a", 5.0, 0.5)
    assert keeps(one, Budget()) and keeps(one, Budget(5.0, 3.0))
    assert not keeps(one, Budget(latency_ms=4.9)) and not keeps(one, Budget(size_mb=2.9))


def test_the_front_holds_who_nobody_beats_in_both() -> None:
    found = [done("best", 9, 0.6), done("fast", 4, 0.5), done("slow", 10, 0.55), done("dropped", 3, 0.1, epochs=2)]
    found.append(done("over budget", 1, 0.0, epochs=0))
    assert [one.architecture for one in mark_front(found) if one.front] == ["best", "fast", "dropped"]
    assert [one.front for one in mark_front([done("a", 4, 0.5), done("a", 4, 0.5)])] == [True, True]


def test_sizes_are_multiples_of_the_stride() -> None:
    assert [one.name for one in pairs(["a", "b"], _sizes("192,256"))] == ["a-192", "a-256", "b-192", "b-256"]
    for wrong in ("100", "x", "192,-32"):
        with pytest.raises(InvalidInput, match="multiples of 32"):
            _sizes(wrong)


def test_the_page_and_the_table_say_what_became_of_everyone(tmp_path) -> None:
    found = mark_front([done("best", 9, 0.6), done("beaten", 10, 0.5), done("early", 3, 0.1, 2), done("big", 1, 0, 0)])
    write_report(tmp_path / "search.html", found, Budget(latency_ms=12))
    page = (tmp_path / "search.html").read_text()
    for said in ("train.architecture=best", "over budget", "dropped after 2", "Budget: 12 ms", "<svg"):
        assert said in page
    assert [line.split()[-1] for line in _table(found)[1:]] == ["front", "beaten", "2", "budget"]
