"""`tinylab doctor`: a sound machine is found sound, and each fault is named with its remedy."""

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from tinylab import cli
from tinylab.commands import doctor
from tinylab.commands.doctor import Finding, Findings

REPOSITORY = Path(__file__).parents[2]
REQUIREMENTS = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["dependencies"]


@pytest.fixture(autouse=True)
def _no_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Decoding MNIST and 15-Scene would take most of the time; one test brings data of its own."""
    monkeypatch.setenv("TINYLAB_DATA", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)


def only(check: Callable[[], Findings]) -> Finding:
    """The one finding of a check."""
    [finding] = doctor._guarded(check)
    return finding


@pytest.mark.costly
def test_a_sound_machine_has_no_problems(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["doctor"]) == 0
    said = capsys.readouterr().out
    assert said.endswith("\nno problems found\n")
    assert all(line.startswith("ok    ") for line in said.splitlines()[:-1])
    for words in ("torch 2", "numpy 2", "fingerprint ", "outputs can be written", "event files"):
        assert words in said
    assert not Path("outputs").exists(), "looking makes nothing"


IMPORTED = [
    pytest.param(each, marks=[pytest.mark.costly] if each.startswith("torchvision") else [])
    for each in REQUIREMENTS
]


@pytest.mark.parametrize("requirement", IMPORTED)
def test_a_library_is_found_by_the_name_that_a_wheel_gives_it(requirement: str) -> None:
    """PEP 503, as hatchling writes metadata: ``PyYAML`` is ``pyyaml``, ``_`` is ``-``."""
    name = re.match(r"[\w.-]+", requirement)[0]
    in_wheel = re.sub(r"[-_.]+", "-", name).lower() + requirement[len(name) :]
    [finding] = doctor.library(in_wheel)
    assert finding.remedy is None, finding.text


BROKEN_TORCH = 'raise ImportError("libtorch_cpu.so: cannot open shared object file")'


@pytest.mark.costly
def test_a_torch_that_cannot_be_imported_is_said_and_the_rest_looked_at(tmp_path: Path) -> None:
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "torch.py").write_text(BROKEN_TORCH)
    paths = [str(tmp_path / "broken"), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    done = subprocess.run(
        [sys.executable, "-m", "tinylab", "doctor"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    lines = done.stdout.splitlines()
    place = next(i for i, line in enumerate(lines) if line.startswith("fail  library"))
    assert "cannot be imported: libtorch_cpu.so: cannot open" in lines[place]
    assert lines[place + 1].strip().startswith("pip install --force-reinstall 'torch>=")
    assert "are not a matching pair (libtorch" in done.stdout
    assert "fail  device       not checked: libtorch" in done.stdout
    for sound in ("ok    library      numpy 2", "ok    config", "ok    data         digits, fing"):
        assert sound in done.stdout
    assert "Traceback" not in done.stdout + done.stderr
    assert done.stderr.endswith(" problems found\n")


def test_what_pyproject_asks_for_is_what_is_looked_at() -> None:
    assert doctor._requirements() == REQUIREMENTS


def test_without_a_checkout_the_installed_package_says_what_it_needs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(doctor, "__file__", "/nowhere/site-packages/tinylab/commands/doctor.py")
    result = doctor._requirements()
    assert any(line.startswith(("torch>=", "torch==")) for line in result)
    assert not any("pytest" in line for line in result)


@pytest.mark.parametrize(
    ("version", "text", "remedy"),
    [
        ("1.26.4", "numpy 1.26.4, but tinylab is tested with ~=2.4", "'numpy~=2.4'"),
        ("2.99.0", "numpy 2.99.0", None),
    ],
)
def test_a_version_that_does_not_fit_is_named(
    version: str, text: str, remedy: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.metadata, "version", lambda _: version)
    finding = only(lambda: doctor.library("numpy~=2.4"))
    assert finding.text == text
    assert (finding.remedy or "None").endswith(str(remedy))


def test_an_absent_library_is_named() -> None:
    finding = only(lambda: doctor.library("no-such-library~=1.0"))
    assert finding.text == "no-such-library is not installed"
    assert finding.remedy == "pip install --force-reinstall 'no-such-library~=1.0'"


def test_a_check_that_breaks_off_is_a_finding() -> None:
    def check() -> Findings:
        yield Finding("first")
        raise RuntimeError("no kernel image is available")

    first, second = doctor._guarded(check)
    assert (first.text, first.remedy) == ("first", None)
    assert second.text == "RuntimeError: no kernel image is available"
    assert second.remedy is not None


@pytest.mark.parametrize(
    ("name", "value", "is_wrong"),
    [
        ("OMP_WAIT_POLICY", "ACTIVE", True),
        ("OMP_WAIT_POLICY", "passive", False),
        ("OMP_PROC_BIND", "close", True),
        ("OMP_PROC_BIND", "false", False),
        ("GOMP_CPU_AFFINITY", "0-1", True),
    ],
)
def test_variables_that_slow_threads_down_are_named(
    name: str, value: str, is_wrong: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    assert only(doctor.openmp).remedy == (f"unset {name}" if is_wrong else None)


def test_another_allocator_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    assert only(doctor.allocator).remedy is None
    monkeypatch.setenv("LD_PRELOAD", "/usr/lib/libjemalloc.so.2")
    assert only(doctor.allocator).remedy == "unset LD_PRELOAD"


def test_a_gpu_that_torch_does_not_see_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tinylab.system.machine.gpus", lambda: 1)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    device, gpu = doctor.device()
    assert device.text.startswith("cpu (")
    assert gpu.text == "an NVIDIA GPU is present, but torch cannot use it"


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    finding = only(lambda: doctor.folder(tmp_path / "file" / "outputs"))
    assert "cannot be written: " in finding.text
    assert finding.remedy is not None


def test_a_full_disk_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil._ntuple_diskusage(10**12, 10**12 - 10**6, 10**6)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    finding = only(lambda: doctor.folder(tmp_path))
    assert "1.0 MB free" in finding.text
    assert finding.remedy is not None


def test_damaged_data_is_named(tmp_path: Path) -> None:
    raw = tmp_path / "data" / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for name in ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1"):
        (raw / f"{name}-ubyte").write_bytes(b"half")
    by_key = {finding.text.split(",")[0].split(":")[0]: finding for finding in doctor.datasets()}
    damaged = by_key[str(raw / "train-images-idx3-ubyte")]
    assert "set dataset.root to an empty folder" in damaged.remedy
    assert by_key["digits"].remedy is by_key["scene15"].remedy is None


@pytest.mark.costly
def test_the_command_ends_with_the_number_of_faults(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("OMP_WAIT_POLICY", "active")
    assert cli.run(["doctor", "--outputs", str(tmp_path / "file")]) == 1
    said = capsys.readouterr()
    assert said.err == "tinylab: 2 problems found\n"
    assert said.out.count("\nfail  ") == 2
    assert "\n                   unset OMP_WAIT_POLICY\n" in said.out
