"""The training step as a CUDA graph takes it: recorded once, on buffers, and replayed.

Without a card the same is tried on the CPU: ``Tape`` records the kernels of one step with the
memory that they read and write, and replays them, so that whatever a step takes from the host
besides its buffers stays as it was at the recording, as on CUDA.
"""

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from option_records import (
    AdamwConfig,
    BaselineConfig,
    MlpConfig,
    MuonConfig,
    ResnetConfig,
    SgdConfig,
)
from tinylab.config.base_records import AugmentConfig
from tinylab.data import augment
from tinylab.errors import Stopped
from tinylab.models.baseline import Baseline
from tinylab.system import runtime
from tinylab.training import capture
from tinylab.training import loop as train
from tinylab.training.capture import Captured, CaptureError
from tinylab.training.loop import StepDone
from tinylab.training.state import Recipe, Training
from tinylab.training.step import Batch, train_step
from training_kit import Lab, Watch, changed, differences

pytestmark = pytest.mark.costly

LAB = Lab(train={"weights": "last"})  # three epochs of four steps, the last of two images
MANY: dict[str, Any] = {
    "flip": True, "shift": 0.2, "rotate": 30.0, "scale": 0.3, "shear": 20.0, "brightness": 0.3,
    "contrast": 0.4, "cutout": 0.5, "elastic": 0.1,
}  # fmt: skip
LABS = {
    "plain": LAB,
    "adamw, cosine": changed(LAB, optim=AdamwConfig(lr=0.02, schedule="cosine")),
    "sgd, onecycle": changed(LAB, optim=SgdConfig(lr=0.05, schedule="onecycle")),
    "clipped": changed(LAB, train={**LAB.train, "grad_clip": 0.05}),
    "dropout": changed(LAB, model=MlpConfig(hidden=8, dropout=0.5)),
    "batch norm": changed(LAB, model=ResnetConfig(width=4, stages=2, dropout=0.3)),
    "augmented": changed(LAB, augment=MANY, channels=3),
    "augmented but at the end": changed(LAB, augment={**MANY, "no_aug_epochs": 1}, enlarged=2),
    "smoothed": changed(LAB, train={**LAB.train, "label_smoothing": 0.1}),
    "weighted": changed(LAB, train={**LAB.train, "class_weights": "balanced"}),
    "bfloat16": changed(LAB, train={**LAB.train, "precision": "bfloat16"}),
    "streamed": changed(LAB, streamed=True, channels=3),
    "mixed": changed(LAB, augment={"mixup": 0.7, "cutmix": 1.0}),
    "best epoch": changed(LAB, train={}),
    "a slow backbone": changed(LAB, optim=SgdConfig(lr=0.05, schedule="onecycle", backbone_lr=0.1)),
    "frozen": changed(
        LAB,
        model=ResnetConfig(width=4, stages=2, freeze=r"blocks\.0"),
        optim=AdamwConfig(lr=0.02, backbone_lr=0.5),
    ),
}
# With tensors for numbers these take other kernels, which round otherwise.
NEARLY = {
    "muon": changed(LAB, optim=MuonConfig(lr=0.01, schedule="cosine")),
    "muon, a slow backbone": changed(
        LAB, optim=MuonConfig(lr=0.01, schedule="cosine", backbone_lr=0.5)
    ),
    "averaged": changed(
        LAB, model=ResnetConfig(width=4, stages=2), train={**LAB.train, "ema": 0.9}
    ),
}


class Tape(TorchDispatchMode):
    """Records kernels and their memory; ``replay`` runs the same on the same memory again."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, Any, Any, list[Tensor]]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self.calls.append((func, args, kwargs or {}, _made(result, (args, kwargs))))
        return result

    @torch.no_grad()
    def replay(self) -> None:
        for func, args, kwargs, outputs in self.calls:
            result = func(*args, **kwargs)
            for old, new in zip(outputs, _made(result, (args, kwargs)), strict=True):
                old.copy_(new)


def _made(result: Any, given: Any) -> list[Tensor]:
    """The tensors that a kernel gave back in memory of their own, and not as views of others."""
    shared = {tensor.untyped_storage().data_ptr() for tensor in _tensors(given)}
    return [t for t in _tensors(result) if t.untyped_storage().data_ptr() not in shared]


def _tensors(values: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(values) if isinstance(leaf, Tensor)]


def warm_up(step: Callable[[], None]) -> None:
    for _ in range(capture.WARM_UP):
        step()


def on_tape(step: Callable[[], None]) -> Callable[[], None]:
    """What ``capture.record`` does on CUDA."""
    warm_up(step)
    tape = Tape()
    with tape:
        step()
    return tape.replay


def refused(step: Callable[[], None]) -> Callable[[], None]:
    """What it does with a step that cannot be recorded."""
    warm_up(step)
    raise CaptureError("part of the step waits for the device")


@pytest.fixture
def captured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Train as on CUDA, with a tape for a graph."""

    def full_step(training: Training, recipe: Recipe) -> Captured:
        step = functools.partial(train_step, training, recipe)
        return Captured(step, functools.partial(train.snapshot, training))

    monkeypatch.setattr(train, "_full_step", full_step)
    # On the CPU the fused kernels compute with the rate in float64, as they do with a number.
    monkeypatch.setattr(train, "scalar", lambda value, _: torch.tensor(value, dtype=torch.float64))
    monkeypatch.setattr(capture, "record", on_tape)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], dict[str, Any]]:
    """How the training of a lab ends without any of it."""

    @functools.cache
    def ended(name: str) -> dict[str, Any]:
        return {**LABS, **NEARLY}[name].run(tmp_path_factory.mktemp("plain")).state_dict()

    return ended


Plain = Callable[[str], dict[str, Any]]

# ---------------------------------------------------------------- on the CPU


@pytest.mark.parametrize("name", LABS)
def test_replayed_steps_are_the_steps_to_the_last_bit(
    name: str, tmp_path: Path, plain: Plain, request: pytest.FixtureRequest
) -> None:
    expected = plain(name)
    request.getfixturevalue("captured")
    assert differences(LABS[name].run(tmp_path).state_dict(), expected) == []


@pytest.mark.parametrize("name", NEARLY)
def test_numbers_in_tensors_change_no_more_than_the_rounding(
    name: str, tmp_path: Path, plain: Plain, request: pytest.FixtureRequest
) -> None:
    expected = plain(name)
    request.getfixturevalue("captured")
    result = NEARLY[name].run(tmp_path).state_dict()
    for part in ("model", "averaged"):
        for key, value in (result[part] or {}).items():
            torch.testing.assert_close(value, expected[part][key], rtol=2e-3, atol=2e-4)


@pytest.mark.parametrize(
    "name", ["batch norm", "augmented", "augmented but at the end", "averaged", "streamed"]
)
@pytest.mark.usefixtures("captured")
def test_recorded_training_that_is_resumed_ends_with_the_same_bits(
    name: str, tmp_path: Path
) -> None:
    lab = {**LABS, **NEARLY}[name]
    for watch in (Watch(steps=2), Watch(steps=3)):  # recorded again in each process
        with pytest.raises(Stopped):
            lab.run(tmp_path / "resumed", watch)
    resumed = lab.run(tmp_path / "resumed").state_dict()
    assert differences(resumed, lab.run(tmp_path / "straight").state_dict()) == []


def test_the_tape_shows_a_number_that_is_left_out_of_the_batch(
    tmp_path: Path, plain: Plain, request: pytest.FixtureRequest
) -> None:
    expected = plain("sgd, onecycle")
    request.getfixturevalue("captured")
    request.getfixturevalue("monkeypatch").setattr(train, "scalar", lambda value, _: value)
    result = LABS["sgd, onecycle"].run(tmp_path).state_dict()
    assert ".model.conv.weight" in differences(result, expected)


def test_the_warm_up_leaves_a_trace_unless_it_is_undone(
    tmp_path: Path, plain: Plain, request: pytest.FixtureRequest
) -> None:
    expected = plain("dropout")
    request.getfixturevalue("captured")
    patch = request.getfixturevalue("monkeypatch")
    patch.setattr(train, "snapshot", lambda training: lambda: None)
    result = differences(LABS["dropout"].run(tmp_path).state_dict(), expected)
    assert ".model.1.weight" in result


def test_a_step_that_cannot_be_recorded_is_taken_as_it_is_and_one_line_says_so(
    tmp_path: Path,
    plain: Plain,
    request: pytest.FixtureRequest,
    capsys: pytest.CaptureFixture[str],
) -> None:
    expected = plain("dropout")
    request.getfixturevalue("captured")
    request.getfixturevalue("monkeypatch").setattr(capture, "record", refused)
    assert differences(LABS["dropout"].run(tmp_path).state_dict(), expected) == []
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("cuda")]
    assert lines == [
        "cuda    no CUDA graph, kernels are launched one by one: part of the step waits for the "
        "device"
    ]


@pytest.mark.parametrize(
    ("options", "reason"),
    [({"precision": "float16"}, "float16"), ({"compile": True}, r"train.compile=true")],
)
def test_what_is_never_recorded_says_why(
    options: dict[str, Any], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = changed(LAB, train=options).recipe()
    on_cuda = dataclasses.replace(recipe, device=torch.device("cuda"))
    assert not isinstance(train._full_step(LAB.start(), on_cuda), Captured)
    assert reason in capsys.readouterr().out
    plain_recipe = dataclasses.replace(LAB.recipe(), device=torch.device("cuda"))
    assert isinstance(train._full_step(LAB.start(), plain_recipe), Captured)
    assert not isinstance(train._full_step(LAB.start(), LAB.recipe()), Captured)


class FakeCuda:
    """What ``record`` calls of ``torch.cuda``, noted in order; no card is needed."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.said: list[str] = []
        self.stream = SimpleNamespace(wait_stream=lambda other: self.said.append("wait"))
        graph = SimpleNamespace(replay=lambda: self.said.append("replay"))
        fakes: dict[str, Any] = {
            "Stream": lambda: self.stream,
            "current_stream": lambda: self.stream,
            "stream": lambda stream: self.block("stream"),
            "CUDAGraph": lambda: graph,
            "graph": lambda graph, stream: self.block("graph"),
            "get_sync_debug_mode": lambda: "as before",
            "set_sync_debug_mode": self.said.append,
        }
        for name, fake in fakes.items():
            assert hasattr(torch.cuda, name)
            monkeypatch.setattr(torch.cuda, name, fake)

    @contextlib.contextmanager
    def block(self, name: str) -> Iterator[None]:
        self.said.append(name)
        try:
            yield
        finally:
            self.said.append(f"end of {name}")


def test_a_step_is_warmed_up_beside_and_recorded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeCuda(monkeypatch)
    replay = capture.record(lambda: fake.said.append("step"))
    replay()
    assert fake.said == [
        "wait", "stream", "step", "error", "step", "step", "as before", "end of stream", "wait",
        "graph", "step", "end of graph", "replay",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("number", "error", "expected"),
    [
        (2, "called a synchronizing CUDA operation", CaptureError),
        (2, "shapes do not fit", RuntimeError),
        (4, "operation not permitted when stream is capturing\nmore", CaptureError),
    ],
)
def test_a_step_that_fails_is_refused_or_fails(
    number: int, error: str, expected: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = FakeCuda(monkeypatch)

    def step() -> None:
        fake.said.append("step")
        if fake.said.count("step") == number:
            raise RuntimeError(error)

    with pytest.raises(expected) as raised:
        capture.record(step)
    assert "\n" not in str(raised.value)
    assert fake.said.count("error") == fake.said.count("as before") == 1
    assert fake.said.index("end of stream") < len(fake.said) - 1 - fake.said[::-1].index("wait")


@pytest.mark.parametrize("channels_last", [True, False])
def test_buffers_have_memory_of_their_own_in_the_same_format(channels_last: bool) -> None:
    lab = changed(LAB, channels=3, train={"channels_last": channels_last})
    images, labels = lab.batches(16).take(torch.arange(16))
    draws = augment.draw(AugmentConfig(**MANY, mixup=0.5), 50, 0, lab.device).rows(3, 19)
    batch = Batch(images, labels, draws, torch.tensor(0.1), 0.5)
    buffers = batch.buffers()
    pairs = list(zip(batch.tensors(), buffers.tensors(), strict=True))
    assert len(pairs) == 3 + 7  # images, labels, lr; of the draws all but patch
    assert buffers.ema_weight == 0.5
    for one, other in pairs:
        assert torch.equal(one, other)
        assert one.data_ptr() != other.data_ptr()
    assert buffers.images.stride() == images.stride()


# What reads a number back to the host, or moves one there: it would wait, and a recording fail.
WAITS = {
    torch.ops.aten._local_scalar_dense.default,
    torch.ops.aten.nonzero.default,
    torch.ops.aten.masked_select.default,
    torch.ops.aten.lift_fresh.default,  # a tensor made of Python numbers
}


@pytest.mark.parametrize("name", [name for name in {**LABS, **NEARLY} if name != "mixed"])
@pytest.mark.usefixtures("captured")
def test_no_step_reads_a_number_back(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """(Of mixup the CPU's one_hot alone does, to check the labels; CUDA's does not.)"""
    tapes: list[Tape] = []

    def noted(step: Callable[[], None]) -> Callable[[], None]:
        tapes.append(Tape())
        with tapes[-1]:
            step()
        return step

    monkeypatch.setattr(capture, "record", noted)
    with contextlib.suppress(Stopped):
        lab = {**LABS, **NEARLY}[name]
        lab.fit(lab.start(), NoCheckpoints(), Watch(steps=1))  # type: ignore[arg-type]
    assert len(tapes[0].calls) > 10
    assert not {call[0] for call in tapes[0].calls} & WAITS


class NoCheckpoints:
    """Keeps nothing."""

    def save_last(self, state: dict[str, Any]) -> None:
        pass


# ---------------------------------------------------------------- on a card

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
CUDA = torch.device("cuda:0")
ON_CUDA = {name: changed(lab, device=CUDA) for name, lab in {**LABS, **NEARLY}.items()}


@pytest.fixture
def deterministic() -> Iterator[None]:
    with runtime.settings(CUDA, threads=1, deterministic=True):
        yield


def by_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """No recording: each kernel is launched by itself."""
    monkeypatch.setattr(
        train, "_full_step", lambda training, recipe: functools.partial(
            train_step, training, recipe
        )
    )  # fmt: skip


@needs_cuda
@pytest.mark.parametrize("name", ON_CUDA)
@pytest.mark.usefixtures("deterministic")
def test_a_recorded_training_is_that_of_kernels_launched_one_by_one(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    result = ON_CUDA[name].run(tmp_path / "recorded").state_dict()
    assert "one by one" not in capsys.readouterr().out
    by_kernels(monkeypatch)
    expected = ON_CUDA[name].run(tmp_path / "launched").state_dict()
    assert torch.equal(result["rng_cuda"], expected["rng_cuda"])
    for part in ("model", "averaged"):
        for key, value in (result[part] or {}).items():
            torch.testing.assert_close(value, expected[part][key], rtol=1e-3, atol=1e-4)
    losses = [[row["train_loss"] for row in state["history"]] for state in (result, expected)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)


@needs_cuda
@pytest.mark.parametrize("name", ON_CUDA)
@pytest.mark.usefixtures("deterministic")
def test_two_recorded_trainings_are_bit_equal_also_when_resumed(name: str, tmp_path: Path) -> None:
    lab = ON_CUDA[name]
    expected = lab.run(tmp_path / "one").state_dict()
    assert differences(lab.run(tmp_path / "two").state_dict(), expected) == []
    for watch in (Watch(steps=2), Watch(steps=3)):
        with pytest.raises(Stopped):
            lab.run(tmp_path / "resumed", watch)
    assert differences(lab.run(tmp_path / "resumed").state_dict(), expected) == []


class Patient(Watch):
    """Lets nothing wait for the device between the first step of an epoch and its last."""

    def __init__(self) -> None:
        super().__init__()
        self.block = contextlib.ExitStack()

    def step(self, event: StepDone) -> None:
        self.block.close()
        if event.step < event.steps - 1:
            self.block.enter_context(capture.no_waiting())


@needs_cuda
@pytest.mark.parametrize("name", ON_CUDA)
@pytest.mark.parametrize("is_recorded", [True, False])
def test_no_step_waits_for_the_device(
    name: str, is_recorded: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not is_recorded:
        by_kernels(monkeypatch)
    watch = Patient()
    with watch.block:
        ON_CUDA[name].run(tmp_path, watch)
    one = torch.ones(1, device=CUDA)
    with capture.no_waiting(), pytest.raises(RuntimeError, match="synchronizing CUDA operation"):
        one.item()


@needs_cuda
def test_a_network_that_waits_is_not_recorded_and_trained_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lab = changed(LAB, device=CUDA, model=BaselineConfig(filters=4, hidden=8))
    expected = lab.run(tmp_path / "recorded").state_dict()

    def waiting(self: Baseline, images: Tensor) -> Tensor:
        assert images.sum().item() is not None
        return forward(self, images)

    forward = Baseline.forward
    monkeypatch.setattr(Baseline, "forward", waiting)
    capsys.readouterr()
    result = lab.run(tmp_path / "waiting").state_dict()
    assert "part of the step waits for the device" in capsys.readouterr().out
    for key, value in result["model"].items():
        torch.testing.assert_close(value, expected["model"][key], rtol=1e-3, atol=1e-4)


@needs_cuda
def test_a_training_on_cuda_is_that_of_the_cpu_but_for_rounding(tmp_path: Path) -> None:
    lab = changed(LAB, model=MlpConfig(hidden=8, dropout=0.0), optim=SgdConfig(lr=0.01))
    cpu, cuda = (
        changed(lab, device=device).run(tmp_path / device.type)
        for device in (torch.device("cpu"), CUDA)
    )
    for one, other in zip(cpu.history, cuda.history, strict=True):
        assert one["train_loss"] == pytest.approx(other["train_loss"], rel=1e-3)
