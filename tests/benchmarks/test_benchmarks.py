"""The benchmark's arithmetic, its peers' networks, and what it starts; nothing is timed here."""

import contextlib
import json
import subprocess
import sys
from argparse import ArgumentTypeError
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import environments
import measures
import process
import quiet
import repeated
import run
import works
from option_records import BaselineConfig, FolderConfig, ResnetConfig
from peers import torch_networks
from summary import number, spread, summarize, table
from tinylab import models
from tinylab.data import part_of
from tinylab.data.arrays import Dataset, Source
from tinylab.data.mnist import Mnist

BENCHMARKS = Path(works.__file__).parent
SECONDS = st.floats(0.01, 1e4)


def records(**systems: list[float]) -> list[dict]:
    return [
        {"work": "w", "system": system, "round": index, "values": {"epoch_seconds": value}}
        for system, values in systems.items()
        for index, value in enumerate(values)
    ]


def row_of(rows: list[dict], system: str) -> dict:
    [row] = [row for row in rows if row["system"] == system]
    return row


def test_ratios_are_taken_round_by_round() -> None:
    row = row_of(summarize(records(tinylab=[1, 2, 10], keras=[3, 2, 20])), "keras")
    assert (row["median"], row["low"], row["high"], row["rounds"]) == (3, 2, 20, 3)
    assert row["ratio"] == {"median": 2, "low": 1, "high": 3}  # 3/1, 2/2, 20/10


@given(st.lists(st.tuples(SECONDS, SECONDS, st.floats(0.1, 10)), min_size=1, max_size=6))
def test_a_machine_that_drifts_leaves_the_ratios_alone(rounds: list[tuple]) -> None:
    calm = summarize(records(tinylab=[r[0] for r in rounds], other=[r[1] for r in rounds]))
    slowed = [(ours * factor, other * factor) for ours, other, factor in rounds]
    noisy = summarize(records(tinylab=[r[0] for r in slowed], other=[r[1] for r in slowed]))
    assert row_of(noisy, "other")["ratio"] == pytest.approx(row_of(calm, "other")["ratio"])
    assert row_of(noisy, "tinylab")["ratio"] == spread([1.0])


@pytest.mark.costly
def test_a_program_runs_as_on_a_machine_where_python_caches_what_it_compiles(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    show = "import os, sys; print(sys.dont_write_bytecode, os.environ['MORE'])"
    assert process.run([sys.executable, "-c", show], MORE="more").output == "False more\n"


def test_quiet_rounds_have_medians_of_their_own() -> None:
    measured = records(tinylab=[1, 2, 4], keras=[2, 6, 20])
    for record in measured:
        record["quiet"] = record["round"] != 2
    row = row_of(summarize(measured), "keras")
    assert (row["quiet_rounds"], row["quiet_median"], row["rounds"]) == (2, 4, 3)
    assert row["quiet_ratio"] == {"median": 2.5, "low": 2, "high": 3}


def test_what_others_take_is_read_from_proc_stat() -> None:
    before = quiet.parse("cpu  100 0 50 800 50 0 0 0 0 0")
    after = quiet.parse("cpu  150 10 60 850 60 5 5 60 0 0")
    assert (before.total, before.idle) == (1000, 850)
    assert after.total - before.total == 200
    assert quiet.stolen(before, after) == 60 / 200
    assert quiet.stolen(None, None) == quiet.stolen(before, before) == 0


def test_a_round_without_tinylab_has_no_ratio() -> None:
    rows = summarize(records(keras=[3]))
    assert rows[0]["ratio"] is None
    assert table(rows).splitlines()[1].split() == [
        "w",
        "epoch",
        "s",
        "keras",
        "3",
        "3",
        "to",
        "3",
        "1",
        "0",
    ]


def test_metrics_of_one_work_are_in_consecutive_rows() -> None:
    values = {"epoch_seconds": 1.0, "peak_mb": 1234.5}
    both = [
        {"work": work, "system": system, "round": 1, "values": values}
        for work in ("b", "a")
        for system in ("tinylab", "keras")
    ]
    lines = table(summarize(both)).splitlines()
    assert [line.split()[:4] for line in lines[1:]] == [
        [work, what, unit, system]
        for work in ("b", "a")
        for what, unit in (("epoch", "s"), ("peak", "MB"))
        for system in ("tinylab", "keras")
    ]
    assert len({line.index("1.00  ") for line in lines[1:]}) == 1
    assert "1,234" in lines[3]


@pytest.mark.parametrize(
    ("value", "text"), [(0.01234, "0.0123"), (9.876, "9.88"), (99.96, "100"), (12345.6, "12,346")]
)
def test_numbers_have_three_digits(value: float, text: str) -> None:
    assert number(value) == text


@pytest.mark.parametrize("path", sorted(BENCHMARKS.rglob("*.py")), ids=lambda path: path.name)
def test_every_script_compiles(path: Path) -> None:
    compile(path.read_text(), path, "exec")


def test_busy_measures_alone_and_beside_a_process_with_the_default_one_thread_and_each_spin(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[tuple[tuple[str, ...], dict[str, str], bool]] = []
    neighbors: list[bool] = []

    @contextlib.contextmanager
    def running(command: list[str]) -> Iterator[None]:
        neighbors.append(True)
        yield
        neighbors.pop()

    def epoch(bench: object, work: object, *overrides: str, **environment: str) -> dict:
        asked.append((overrides, environment, bool(neighbors)))
        is_two = "threads=1" not in overrides
        return {"epoch_seconds": (2.0 if neighbors else 1.0) * (3.0 if is_two else 1.0)}

    monkeypatch.setattr(measures, "_tinylab_epoch", epoch)
    monkeypatch.setattr(process, "running", running)
    bench = measures.Bench(Path(), 2, 1, spins=(100,))
    lines = measures.busy(bench, "busy", works.WORKS["digits"], "tinylab")
    assert asked == [
        (overrides, environment, beside)
        for overrides, environment in (
            (("threads=1",), {}), ((), {}), (("threads=2",), {"GOMP_SPINCOUNT": "100"}),
        )
        for beside in (False, True)
    ]  # fmt: skip
    assert lines["tinylab threads=1"]["beside_speed_fraction"] == 0.5
    assert lines["tinylab"]["alone_speed_fraction"] == pytest.approx(1 / 3)
    assert lines["tinylab"]["beside_speed_fraction"] == pytest.approx(1 / 6)
    assert measures.busy(bench, "busy", works.WORKS["digits"], "keras") == {}


@pytest.mark.costly
def test_the_neighbor_runs_in_the_block_alone(tmp_path: Path) -> None:
    touch = f"import time, pathlib; pathlib.Path({str(tmp_path / 'up')!r}).touch(); time.sleep(60)"
    with process.running([sys.executable, "-c", touch]) as neighbor:
        while not (tmp_path / "up").exists():
            assert neighbor.poll() is None
    assert neighbor.returncode is not None


def test_every_peer_has_its_script() -> None:
    for script in run.SCRIPTS.values():
        assert (BENCHMARKS / "peers" / f"{script}.py").is_file()


@pytest.mark.costly
@pytest.mark.parametrize(
    ("network", "config"), [("baseline", BaselineConfig()), ("resnet", ResnetConfig())]
)
def test_the_peers_train_the_same_network(network: str, config: object) -> None:
    ours = models.build(config, (3, 32, 32), 7).eval()
    theirs = torch_networks.build(network, 3, 32, 7).eval()
    pairs = zip(ours.state_dict().values(), theirs.state_dict().values(), strict=True)
    for own, other in pairs:
        other.copy_(own.reshape(other.shape))
    images = torch.rand(5, 3, 32, 32)
    torch.testing.assert_close(theirs(images), ours(images))


def test_the_peers_drop_as_much() -> None:
    dropouts = [m for m in torch_networks.build("baseline", 1, 28, 10) if hasattr(m, "p")]
    assert [module.p for module in dropouts] == [BaselineConfig().dropout]
    assert ResnetConfig().dropout == 0


@pytest.mark.costly
def test_peak_memory_is_the_programs_own() -> None:
    code = (
        f"import sys; sys.path.insert(0, {str(BENCHMARKS)!r}); import process\n"
        "for size in (1, 200_000_000):\n"
        "    code = f\"x = b'x' * {size}\"\n"
        "    print(process.run([sys.executable, '-S', '-c', code]).peak_mb)"
    )
    # In a process of its own: this one is large, and a child begins with its parent's peak.
    done = subprocess.run([sys.executable, "-S", "-c", code], capture_output=True, check=True)
    small, large = map(float, done.stdout.split())
    assert 190 < large - small < 215


@pytest.mark.costly
def test_the_runner_stays_small() -> None:
    code = (
        f"import sys; sys.path.insert(0, {str(BENCHMARKS)!r}); import run\n"
        "sys.exit('numpy' in sys.modules or 'torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.costly
def test_an_unexpected_end_is_an_error_that_says_what_was_said() -> None:
    program = [sys.executable, "-S", "-c", "import sys; print('said'); sys.exit(3)"]
    assert process.run(program, status=3).output == "said\n"
    with pytest.raises(RuntimeError, match="said"):
        process.run(program)
    with pytest.raises(RuntimeError, match="said"):
        process.seconds_until(program, lambda said: False)


@pytest.mark.costly
def test_what_is_waited_for_is_seen_and_the_program_killed(tmp_path: Path) -> None:
    survived = tmp_path / "survived"
    code = f"import time; print('ready', flush=True); time.sleep(9); open({str(survived)!r}, 'w')"
    seconds = process.seconds_until(
        [sys.executable, "-S", "-c", code], lambda said: "ready" in said
    )
    assert 0 < seconds < 9
    assert not survived.exists()


def test_an_environment_is_made_once_and_again_for_other_packages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands: list[list[str]] = []

    def record(command: list[str], check: bool) -> None:
        (tmp_path / "env").mkdir(exist_ok=True)
        commands.append(command)

    monkeypatch.setattr(subprocess, "run", record)
    for packages in (("a==1",), ("a==1",), ("a==2", "b==1")):
        environments.make(tmp_path / "env", packages)
    assert [command[-1] for command in commands[1::2]] == ["a==1", "b==1"]


def test_an_environment_whose_installation_failed_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(command: list[str], check: bool) -> None:
        raise subprocess.CalledProcessError(1, command)

    monkeypatch.setattr(subprocess, "run", fail)
    for _ in range(2):
        with pytest.raises(subprocess.CalledProcessError):
            environments.make(tmp_path / "env", ("a==1",))


def test_tinylab_and_lightning_run_on_one_torch() -> None:
    assert f"torch=={torch.__version__.partition('+')[0]}" in environments.torch_packages()


def test_training_images_are_repeated_and_test_images_are_not() -> None:
    images = np.arange(5, dtype=np.uint8).reshape(5, 1, 1, 1)
    once = Dataset(images, np.arange(5), ("a", "b", "c", "d", "e"), num_official_test=2)
    twice = repeated.repeated(once, 2)
    assert twice.pixels.flatten().tolist() == [0, 1, 2, 0, 1, 2, 3, 4]
    assert twice.labels.tolist() == [0, 1, 2, 0, 1, 2, 3, 4]
    assert twice.num_official_test == 2


def test_the_folder_has_as_many_images_as_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("coast/1.jpg", "coast/2.jpg", "forest/1.jpg"):
        file = tmp_path / "data" / "15-Scene" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    monkeypatch.setenv("TINYLAB_DATA", str(tmp_path / "data"))
    work = works.folder_work(tmp_path, 8)
    [root] = [word.partition("=")[2] for word in work.overrides if "dataset.root" in word]
    source = part_of(FolderConfig(root=root)).find()
    assert len({file for file in source.files if Path(file).exists()}) == 8


def test_without_photographs_it_says_what_it_wants(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TINYLAB_DATA", str(tmp_path))
    with pytest.raises(SystemExit, match="expected 15-Scene"):
        works.folder_work(tmp_path, 8)


def test_mistyped_names_and_counts_are_refused() -> None:
    assert run.some_of(("a", "b"))("b,a") == ("b", "a")
    assert run.some_of(("a", "b"))("") == ()
    with pytest.raises(ArgumentTypeError, match="expected some of a, b"):
        run.some_of(("a", "b"))("a,c")
    with pytest.raises(ArgumentTypeError, match="expected 2 or more"):
        run.at_least(2)("1")


def test_the_repeated_mnist_is_read_in_place_of_mnist(monkeypatch: pytest.MonkeyPatch) -> None:
    images = np.zeros((3, 1, 28, 28), np.uint8)
    once = Dataset(images, np.arange(3), ("a", "b", "c"), num_official_test=1)
    monkeypatch.setattr(Mnist, "find", lambda self: Source("mnist", (), {"kept": 1}, lambda: once))
    repeated.repeat_mnist(4)
    source = Mnist().find()
    assert source.preparation == {"kept": 1, "times": 4}
    assert len(source.read().labels) == 2 * 4 + 1


@pytest.mark.costly
def test_the_file_holds_records_and_summary(tmp_path: Path) -> None:
    measured = records(tinylab=[1.0], keras=[2.0])
    run.write(tmp_path / "new" / "out.json", run.Bench(tmp_path, 2, 1), measured)
    written = json.loads((tmp_path / "new" / "out.json").read_text())
    assert written["records"] == measured
    assert written["summary"] == summarize(measured)
