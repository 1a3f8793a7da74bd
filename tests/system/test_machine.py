"""How much of the machine may be used: by affinity, a container's quota, and variables."""

import math
from pathlib import Path

import pytest

from tinylab.system import machine


def files(root: Path, contents: dict[str, str]) -> Path:
    for name, text in contents.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


V2 = {"proc/self/cgroup": "0::/a/b\n"}
V1 = {"proc/self/cgroup": "5:cpu,cpuacct:/docker/x\n4:memory:/docker/x\n"}


@pytest.mark.parametrize(
    ("contents", "expected"),
    [
        ({}, math.inf),
        (V2, math.inf),
        ({**V2, "sys/fs/cgroup/a/b/cpu.max": "max 100000\n"}, math.inf),
        ({**V2, "sys/fs/cgroup/a/b/cpu.max": "50000 100000\n"}, 0.5),
        ({**V2, "sys/fs/cgroup/a/cpu.max": "150000 100000\n"}, 1.5),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "200000 100000\n"}, 2),
        (
            {
                **V1,
                "sys/fs/cgroup/cpu,cpuacct/docker/x/cpu.cfs_quota_us": "50000\n",
                "sys/fs/cgroup/cpu,cpuacct/docker/x/cpu.cfs_period_us": "100000\n",
            },
            0.5,
        ),
        (
            {
                **V1,
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "300000\n",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            },
            3,
        ),
        (
            {
                **V1,
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            },
            math.inf,
        ),
        ({"proc/self/cgroup": "no group\n"}, math.inf),
        ({**V2, "sys/fs/cgroup/a/b/cpu.max": "many\n"}, math.inf),
    ],
)
def test_a_containers_quota_is_found(
    tmp_path: Path, contents: dict[str, str], expected: float
) -> None:
    assert machine._quota(files(tmp_path, contents)) == expected


@pytest.mark.parametrize(("quota", "expected"), [(0.5, 1), (1.5, 1), (2.0, 2), (math.inf, 8)])
def test_a_quota_leaves_whole_cores_but_one_at_least(
    monkeypatch: pytest.MonkeyPatch, quota: float, expected: int
) -> None:
    monkeypatch.setattr(machine, "_quota", lambda root: quota)
    monkeypatch.setattr(machine.os, "sched_getaffinity", lambda pid: range(8), raising=False)
    assert machine.cores() == expected


@pytest.mark.parametrize(
    ("asked", "expected"), [("1", 1), ("3,2", 3), ("16", 4), ("0", 4), ("", 4), ("many", 4)]
)
def test_omp_num_threads_limits_and_never_raises(
    monkeypatch: pytest.MonkeyPatch, asked: str, expected: int
) -> None:
    monkeypatch.setattr(machine, "cores", lambda: 4)
    monkeypatch.setenv("OMP_NUM_THREADS", asked)
    assert machine.thread_limit() == expected


@pytest.mark.parametrize(
    ("info", "expected"),
    [
        ("processor\t: 0\nflags\t\t: fpu avx512_bf16 avx2\n", True),
        ("flags : amx_bf16", True),
        ("Features\t: fp asimd bf16", True),
        ("flags\t\t: fpu avx2 avx512f\n", False),
        ("processor: an unknown kind", None),
    ],
)
def test_bfloat16_units_are_recognized_by_the_flags(
    info: str, expected: bool | None, tmp_path: Path
) -> None:
    (tmp_path / "cpuinfo").write_text(info)
    assert machine.has_bfloat16(tmp_path / "cpuinfo") is expected
    assert machine.has_bfloat16(tmp_path / "absent") is None


@pytest.mark.parametrize(
    ("visible", "count"),
    [(None, 2), ("0", 1), ("1,0", 2), ("", 0), ("-1", 0), ("0,-1,1", 1), ("NoDevFiles", 0),
     ("GPU-8932f937", 1), ("0,1,2", 2)],
)  # fmt: skip
def test_gpus_are_those_that_cuda_makes_visible(
    visible: str | None, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = [Path(f"/dev/{name}") for name in ("nvidia0", "nvidia1", "nvidiactl", "nvidia-uvm")]
    monkeypatch.setattr(Path, "glob", lambda *_: there)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert machine.gpus() == count
