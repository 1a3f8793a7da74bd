"""Threads of a step: the faster number is taken, and only if it gives the same bits."""

import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from option_records import BaselineConfig
from tinylab.data.augment import Draws
from tinylab.models.layers import PREFERS_ONEDNN
from tinylab.training import loop, threads
from tinylab.training.step import Batch
from tinylab.training.threads import LONGEST_PAUSE, WINDOW, AdaptiveThreads, Pace
from training_kit import Lab, differences

ALONE = {2: 0.0030, 1: 0.0040}  # seconds of a step, by its threads
BESIDE_ANOTHER = {2: 0.0400, 1: 0.0042}


@pytest.fixture(autouse=True)
def _two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def train(pace: Pace, step: dict[int, float], seconds: float) -> int:
    """Train on a machine where a step takes so long; return how many were made."""
    passed, steps = 0.0, 0
    while passed < seconds:
        passed += step[pace.threads]
        steps += 1
        pace.took(step[pace.threads])
    return steps


# ---------------------------------------------------------------- which number


def test_alone_at_most_three_in_a_hundred_steps_are_lost() -> None:
    assert train(Pace(2), ALONE, 60) > 0.97 * 60 / ALONE[2]


def test_beside_a_busy_process_nearly_all_steps_of_one_thread_are_made() -> None:
    assert train(Pace(2), BESIDE_ANOTHER, 60) > 0.9 * 60 / BESIDE_ANOTHER[1]


def test_what_the_machine_does_is_followed() -> None:
    pace = Pace(2)
    for machine, fastest in ((ALONE, 2), (BESIDE_ANOTHER, 1), (ALONE, 2), (BESIDE_ANOTHER, 1)):
        train(pace, machine, LONGEST_PAUSE + 2)
        steps = train(pace, machine, 5)
        assert steps > 0.9 * 5 / machine[fastest]


@pytest.mark.parametrize(("one", "chosen"), [(0.0028, 2), (0.0026, 1)])
def test_one_thread_is_chosen_only_if_it_is_clearly_faster(one: float, chosen: int) -> None:
    steps: dict[int, int] = {1: 0, 2: 0}
    pace = Pace(2)
    for _ in range(20_000):
        steps[pace.threads] += 1
        pace.took({2: 0.0030, 1: one}[pace.threads])
    assert steps[chosen] > 0.9 * 20_000


def test_one_slow_moment_is_soon_forgotten() -> None:
    pace = Pace(2)
    train(pace, ALONE, 20)
    pace.took(0.5)
    assert train(pace, ALONE, 2) > 0.9 * 2 / ALONE[2]


def test_the_screen_says_once_why_one_thread_is_used(capsys: pytest.CaptureFixture[str]) -> None:
    train(Pace(2), ALONE, 20)
    assert capsys.readouterr().out == ""
    train(Pace(2), BESIDE_ANOTHER, 60)
    (line,) = capsys.readouterr().out.splitlines()
    assert "other processes use the cores: steps take 10 times as long with 2 threads" in line


# ---------------------------------------------------------------- the same bits


class Sums:
    """A state to which each step adds what depends on the threads, or does not."""

    def __init__(self, amount: Callable[[], float]) -> None:
        self.total, self.amount = torch.zeros(3), amount
        self.threads: list[int] = []

    def step(self, batch: Batch) -> None:
        self.threads.append(torch.get_num_threads())
        self.total += self.amount()

    def snapshot(self) -> Callable[[], None]:
        return functools.partial(self.restore, self.total.clone())

    def restore(self, total: Tensor) -> None:
        self.total.copy_(total)

    def adaptive(self) -> AdaptiveThreads:
        return AdaptiveThreads(self.step, lambda: {"sums": [self.total]}, self.snapshot)


def batch(N: int = 2) -> Batch:
    images = torch.zeros(N, 1, 8, 8, dtype=torch.uint8)
    return Batch(images, torch.zeros(N, dtype=torch.int64), Draws(*[None] * 8), 0.1, 0.1)


def test_a_step_whose_bits_depend_on_the_threads_always_has_all() -> None:
    sums = Sums(lambda: 1 + 1e-6 * torch.get_num_threads())
    step = sums.adaptive()
    for _ in range(10 * WINDOW):
        step(batch())
    assert sums.threads[:3] == [2, 1, 2]  # compared, then taken
    assert set(sums.threads[2:]) == {2}
    torch.testing.assert_close(sums.total, torch.full((3,), 10 * WINDOW * (1 + 2e-6)))


def test_another_step_is_made_with_both_and_counts_once() -> None:
    sums = Sums(lambda: 1)
    step = sums.adaptive()
    for _ in range(10 * WINDOW):
        step(batch())
        assert torch.get_num_threads() == 2
    assert {1, 2} <= set(sums.threads[9:])
    assert sums.total.tolist() == [10 * WINDOW] * 3


def test_batches_of_another_form_are_compared_anew() -> None:
    sums = Sums(lambda: 1)
    step = sums.adaptive()
    for _ in range(5):
        step(batch(2))
    sums.amount = lambda: torch.get_num_threads()
    made = len(sums.threads)
    for _ in range(5):
        step(batch(3))
    assert sums.threads[made:] == [2, 1, 2, 2, 2, 2, 2]


@pytest.mark.costly
def test_a_training_whose_threads_change_has_the_bits_of_one_whose_threads_do_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Restless(Pace):
        def took(self, seconds: float) -> None:
            self.threads = 3 - self.threads
            changes.append(self.threads)

    changes: list[int] = []
    monkeypatch.setattr(threads, "Pace", Restless)
    keys: dict[str, Any] = {"in_one_pass": True, "num_train": 112, "train": {"epochs": 2},
                            "model": BaselineConfig(filters=8, hidden=32)}  # fmt: skip
    adaptive = Lab(**keys, may_adapt=True).run(tmp_path / "adaptive")
    fixed = Lab(**keys).run(tmp_path / "fixed")
    assert differences(adaptive.state_dict(), fixed.state_dict()) == []
    if PREFERS_ONEDNN:  # another library's products may depend on the threads
        assert changes.count(1) > 3


def test_a_training_only_adapts_if_its_recipe_allows_it() -> None:
    for may_adapt in (False, True):
        lab = Lab(may_adapt=may_adapt)
        step = loop._full_step(lab.start(), lab.recipe())
        assert isinstance(step, AdaptiveThreads) == may_adapt
