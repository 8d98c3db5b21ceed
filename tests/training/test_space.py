"""The space of a search: what may be written, and every fault with its place."""

from pathlib import Path

import pytest

from lineside.core import InvalidError, NotFoundError
from lineside.training import read_space
from lineside.training.search.study import Parameter, Space, _value

WHOLE = """
schema = "lineside.search-space/1"
objective = "validation_loss"
trials = 6
[[parameter]]
name = "learning_rate"
low = 0.001
high = 0.01
log = true
[[parameter]]
name = "batch_size"
choices = [32, 64]
[[parameter]]
name = "epochs"
low = 5
high = 50
whole = true
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "space.toml"
    path.write_text(text)
    return path


def test_a_space_is_read_with_ranges_and_choices(tmp_path: Path) -> None:
    space = read_space(written(tmp_path, WHOLE))
    rate, batch, epochs = space.parameter
    assert rate.range == (0.001, 0.01)
    assert rate.log
    assert list(batch.choices) == [32, 64]
    assert epochs.whole
    assert space.best([0.4, 0.2, 0.3]) == 0.2


def test_one_easy_fold_decides_no_trial() -> None:
    rows = [{"validation_loss": loss, "fit": fit} for fit, loss in ((1, 0.5), (1, 0.4), (2, 0.1))]
    space = Space(parameter=(Parameter(name="batch_size", choices=(4.0,)),))
    assert _value([*rows, {"loss": 0.01, "fit": 3}], space) == pytest.approx(0.25)


def test_the_shipped_example_is_a_space() -> None:
    space = read_space(Path(__file__).parents[2] / "examples" / "bins" / "space.toml")
    assert {one.name for one in space.parameter} == {"learning_rate", "batch_size", "epochs"}
    assert space.trials == 6


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("low = 0.001", "low = 0.1", "low <= high"),
        ("low = 0.001", "low = 0", "above 0 where log"),
        ("choices = [32, 64]", "", "a range"),
        ('name = "epochs"', 'name = "batch_size"', "different names"),
        ("trials = 6", "trials = 0", "1 or more"),
        ("trials = 6", "trails = 6", "trials"),
        ("objective", "goal", "objective"),
    ],
)
def test_each_fault_is_named(*, tmp_path: Path, before: str, after: str, said: str) -> None:
    path = written(tmp_path, WHOLE.replace(before, after))
    with pytest.raises(InvalidError) as caught:
        read_space(path)
    assert said in str(caught.value) + caught.value.fix + str(caught.value.faults)
    assert "space.toml" in caught.value.where


def test_a_space_that_is_not_there_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="cannot read the space"):
        read_space(tmp_path / "none.toml")


def test_the_greatest_is_best_where_the_space_says_so() -> None:
    space = Space(parameter=(Parameter(name="a", choices=(1, 2)),), direction="maximize")
    assert space.best([0.4, 0.2]) == 0.4


def test_choices_have_no_range() -> None:
    with pytest.raises(InvalidError, match="has no range"):
        _ = Parameter(name="a", choices=(1, 2)).range
