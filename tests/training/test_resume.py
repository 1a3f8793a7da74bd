"""Training that is stopped or killed, and gone on with, ends with the bits of training that is not.

Every part that training can have is trained straight through, and again with interruptions; the
objects that go on are fresh, and only the checkpoint on disk connects them with those before.
"""

import random
import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from option_records import (
    AdamConfig,
    AdamwConfig,
    BaselineConfig,
    MlpConfig,
    MuonConfig,
    ResnetConfig,
    SgdConfig,
)
from tinylab.config.base_records import OptimConfig
from tinylab.data import stream
from tinylab.errors import Stopped
from tinylab.training.loop import StepDone
from tinylab.training.state import Training
from training_kit import Lab, Watch, changed, differences

pytestmark = pytest.mark.costly

LAB = Lab()  # three epochs of four steps
OPTIMIZERS: dict[str, type[OptimConfig]] = {
    "adam": AdamConfig,
    "adamw": AdamwConfig,
    "muon": MuonConfig,
    "sgd": SgdConfig,
}
SCHEDULES = ["constant", "cosine", "onecycle"]
AUGMENTS: dict[str, Any] = {
    "flip": True, "shift": 0.2, "rotate": 30.0, "scale": 0.3, "shear": 20.0, "brightness": 0.3,
    "contrast": 0.4, "cutout": 0.5, "mixup": 0.7, "cutmix": 1.0, "elastic": 0.1,
}  # fmt: skip
EVERYTHING = changed(
    LAB,
    train={"ema": 0.9, "grad_clip": 1.0, "label_smoothing": 0.1, "patience": 3},
    optim=SgdConfig(lr=0.05, schedule="onecycle", weight_decay=0.01),
    augment=AUGMENTS,
    model=ResnetConfig(width=4, stages=2, squeeze=2, dropout=0.3),
)
LABS = {
    **{
        f"{name} {schedule}": changed(
            LAB, optim=kind(lr=0.02, schedule=schedule, weight_decay=0.01)
        )
        for name, kind in OPTIMIZERS.items()
        for schedule in SCHEDULES
    },
    **{kind: changed(LAB, augment={kind: value}) for kind, value in AUGMENTS.items()},
    "all augmentations": changed(LAB, augment=AUGMENTS, channels=3),
    "sgd without momentum": changed(LAB, optim=SgdConfig(momentum=0, nesterov=False)),
    "moving average": changed(LAB, train={"ema": 0.9}),
    "gradient clipping": changed(LAB, train={"grad_clip": 0.05}),
    "label smoothing": changed(LAB, train={"label_smoothing": 0.2}),
    "class weights": changed(LAB, train={"class_weights": "balanced"}),
    "bfloat16": changed(LAB, train={"precision": "bfloat16"}),
    "float16": changed(LAB, train={"precision": "float16"}),
    "float16, clipped": changed(LAB, train={"precision": "float16", "grad_clip": 0.05}),
    "patience": changed(LAB, train={"patience": 1, "epochs": 5}, optim=AdamConfig(lr=0.5)),
    "best by loss": changed(LAB, train={"monitor": "loss"}),
    "last epoch": changed(LAB, train={"weights": "last"}),
    "no validation": changed(LAB, num_val=0),
    "one pass": changed(LAB, in_one_pass=True),
    "contiguous": changed(LAB, train={"channels_last": False}, channels=3),
    "dropout": changed(LAB, model=MlpConfig(hidden=8, dropout=0.5)),
    "batch norm": changed(LAB, model=ResnetConfig(width=4, stages=2)),
    "batch norm, averaged": changed(LAB, model=ResnetConfig(width=4, stages=2), train={"ema": 0.9}),
    **{
        f"{name}, a slow backbone": changed(
            LAB, optim=kind(lr=0.02, schedule="cosine", weight_decay=0.01, backbone_lr=0.1)
        )
        for name, kind in OPTIMIZERS.items()
    },
    "frozen": changed(LAB, model=ResnetConfig(width=4, stages=2, freeze="backbone")),
    "frozen in part": changed(
        EVERYTHING,
        model=ResnetConfig(width=4, stages=2, freeze="stem|blocks.0"),
        optim=MuonConfig(backbone_lr=0.1),
    ),
    "everything": EVERYTHING,
    "streamed": changed(EVERYTHING, streamed=True, channels=3),
}
every_lab = pytest.mark.parametrize("lab", LABS.values(), ids=LABS.keys())


class Killed(BaseException):
    """The process is gone, and nothing was saved for it."""


class Killer(Watch):
    """Dies after so many steps, as if by SIGKILL."""

    def step(self, event: StepDone) -> None:
        super().step(event)
        if self.steps_left <= 0:
            raise Killed


def run_with(lab: Lab, folder: Path, interruptions: list[Watch], **options: Any) -> Training:
    """Interrupt a run again and again, and let it end."""
    for watch in interruptions:
        try:
            return lab.run(folder, watch, **options)  # it ended before the interruption came
        except (Stopped, Killed):
            continue
    return lab.run(folder, **options)


def straight(lab: Lab, folder: Path) -> dict[str, Any]:
    return lab.run(folder / "straight").state_dict()


# ---------------------------------------------------------------- exactness


@pytest.fixture(scope="module")
def everything(one_thread: None, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """How a training with everything ends that nothing interrupts."""
    return straight(EVERYTHING, tmp_path_factory.mktemp("everything"))


@every_lab
def test_a_resumed_training_ends_with_the_same_bits(
    lab: Lab, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    draw = random.Random(request.node.name)
    stops: list[Watch] = [Watch(steps=draw.randint(1, 7)), Watch(steps=draw.randint(1, 5))]
    resumed = run_with(lab, tmp_path / "resumed", stops)
    assert differences(resumed.state_dict(), straight(lab, tmp_path)) == []
    assert all(watch.signal() for watch in stops)  # both did stop it


@pytest.mark.parametrize("steps", range(1, 13))
def test_it_may_be_stopped_after_any_step(
    steps: int, tmp_path: Path, everything: dict[str, Any]
) -> None:
    resumed = run_with(EVERYTHING, tmp_path / "resumed", [Watch(steps=steps)])
    assert differences(resumed.state_dict(), everything) == []


@pytest.mark.parametrize("epochs", [[1], [2], [3], [1, 1], [1, 1, 1]])
def test_it_may_be_stopped_at_the_end_of_any_epoch(
    epochs: list[int], tmp_path: Path, everything: dict[str, Any]
) -> None:
    stops: list[Watch] = [Watch(epochs=number) for number in epochs]
    resumed = run_with(EVERYTHING, tmp_path / "resumed", stops)
    assert differences(resumed.state_dict(), everything) == []


def test_it_may_be_stopped_after_every_single_step(
    tmp_path: Path, everything: dict[str, Any]
) -> None:
    stops: list[Watch] = [Watch(steps=1) for _ in range(12)]
    resumed = run_with(EVERYTHING, tmp_path / "resumed", stops)
    assert differences(resumed.state_dict(), everything) == []


@pytest.mark.parametrize("steps", [[1], [3, 3], [4, 1], [5, 2, 9], [2, 2, 2, 2]])
@pytest.mark.parametrize("seconds", [1e-9, 1e9])
def test_it_may_be_killed_after_any_step(
    steps: list[int], seconds: float, tmp_path: Path, everything: dict[str, Any]
) -> None:
    lab = changed(EVERYTHING, train={**EVERYTHING.train, "checkpoint_seconds": seconds})
    resumed = run_with(lab, tmp_path / "resumed", [Killer(steps=number) for number in steps])
    assert differences(resumed.state_dict(), everything) == []


def test_two_threads_are_as_exact_as_one(tmp_path: Path) -> None:
    torch.set_num_threads(2)
    for name in ("everything", "one pass"):
        lab = changed(LABS[name], train={**LABS[name].train, "epochs": 2})
        resumed = run_with(lab, tmp_path / name / "resumed", [Watch(steps=6)])
        assert differences(resumed.state_dict(), straight(lab, tmp_path / name)) == []
    torch.set_num_threads(1)


def test_checkpoints_and_the_size_of_evaluation_batches_leave_no_trace(
    tmp_path: Path, everything: dict[str, Any]
) -> None:
    often = changed(EVERYTHING, train={**EVERYTHING.train, "checkpoint_seconds": 1e-9})
    assert differences(straight(often, tmp_path / "often"), everything) == []
    small = changed(EVERYTHING, train={**EVERYTHING.train, "eval_batch_size": 7})
    result = straight(small, tmp_path / "small")
    assert differences(result["model"], everything["model"]) == []


def test_a_resumed_history_has_no_gap_and_no_double(tmp_path: Path) -> None:
    stops: list[Watch] = [Watch(steps=4), Watch(epochs=1), Watch(steps=2)]
    training = run_with(LAB, tmp_path, stops)
    assert [row["epoch"] for row in training.history] == [1, 2, 3]
    assert [row["step"] for row in training.history] == [4, 8, 12]


def test_streamed_images_train_the_same_bits(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(stream, "CHUNK_BYTES", 32 * 3 * 64)  # two batches of 16 images
    streamed = LABS["streamed"]
    expected = straight(changed(streamed, streamed=False), tmp_path / "resident")
    assert differences(straight(streamed, tmp_path / "whole"), expected) == []
    resumed = run_with(streamed, tmp_path / "resumed", [Watch(steps=3), Watch(steps=6)])
    assert differences(resumed.state_dict(), expected) == []


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("name", ["everything", "dropout", "float16", "all augmentations"])
def test_a_resumed_training_on_cuda_ends_with_the_same_bits(name: str, tmp_path: Path) -> None:
    lab = changed(LABS[name], device=torch.device("cuda:0"))
    torch.set_deterministic_debug_mode("error")
    try:
        resumed = run_with(lab, tmp_path / "resumed", [Watch(steps=6), Watch(steps=3)])
        assert differences(resumed.state_dict(), straight(lab, tmp_path)) == []
    finally:
        torch.set_deterministic_debug_mode("default")


# ---------------------------------------------------------------- any config


@st.composite
def labs(draw: st.DrawFn) -> Lab:
    """Any small config of the schema."""
    fraction = st.floats(0, 0.5)
    kind = draw(st.sampled_from(sorted(OPTIMIZERS)))
    optim = OPTIMIZERS[kind](
        lr=draw(st.floats(1e-4, 0.05)),
        weight_decay=draw(fraction),
        schedule=draw(st.sampled_from(SCHEDULES)),
        warmup=draw(st.none() | fraction),
        final=draw(fraction),
    )
    dropout = draw(st.sampled_from([0.0, 0.3]))
    model = draw(
        st.sampled_from([
            BaselineConfig(filters=3, hidden=8, kernel_size=2, dropout=dropout, init="glorot"),
            MlpConfig(hidden=8, layers=1, dropout=dropout),
            ResnetConfig(width=3, stages=2, dropout=dropout),
        ])
    )  # fmt: skip
    train = {
        "epochs": draw(st.integers(1, 3)),
        "batch_size": draw(st.sampled_from([7, 16, 50])),
        "eval_batch_size": draw(st.sampled_from([3, 1000])),
        "label_smoothing": draw(fraction),
        "ema": draw(st.none() | st.floats(0.1, 0.99)),
        "grad_clip": draw(st.none() | st.floats(0.1, 5)),
        "patience": draw(st.none() | st.integers(1, 2)),
        "monitor": draw(st.sampled_from(["accuracy", "loss"])),
        "weights": draw(st.sampled_from(["best", "last"])),
        "precision": draw(st.sampled_from(["float32", "float32", "bfloat16"])),
        "channels_last": draw(st.booleans()),
        "checkpoint_seconds": draw(st.sampled_from([1e-9, 60.0])),
    }
    kinds = draw(st.sets(st.sampled_from(sorted(AUGMENTS))))
    fill = draw(st.sampled_from(["zeros", "border", "reflection"]))
    return Lab(
        train=train, optim=optim, model=model, seed=draw(st.integers(0, 2**63 - 1)),
        augment={
            "fill": fill, "no_aug_epochs": draw(st.integers(0, 2)),
            **{kind: AUGMENTS[kind] for kind in kinds},
        },
        enlarged=draw(st.sampled_from([1, 2])),
        num_train=draw(st.integers(45, 60)), channels=draw(st.sampled_from([1, 3])),
    )  # fmt: skip


INTERRUPTIONS = st.lists(
    st.builds(Watch, steps=st.integers(1, 12))
    | st.builds(Killer, steps=st.integers(1, 12))
    | st.builds(Watch, epochs=st.integers(1, 2)),
    min_size=1,
    max_size=3,
)


@given(labs(), INTERRUPTIONS)
@settings(max_examples=25)
def test_any_config_resumes_to_the_same_bits(lab: Lab, interruptions: list[Watch]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        resumed = run_with(lab, Path(folder) / "resumed", interruptions)
        assert differences(resumed.state_dict(), straight(lab, Path(folder))) == []


# ---------------------------------------------------------------- these tests can fail


@pytest.fixture(scope="module")
def spoilable(tmp_path_factory: pytest.TempPathFactory) -> tuple[Lab, dict[str, Any]]:
    """A training in which every part of the state matters, and how it ends."""
    lab = changed(EVERYTHING, train={**EVERYTHING.train, "precision": "float16"})
    return lab, straight(lab, tmp_path_factory.mktemp("spoilable"))


IN_AN_EPOCH, AT_ITS_LAST_STEP, AT_THE_END = {"steps": 6}, {"steps": 4}, {"epochs": 3}
NEEDED = {
    **dict.fromkeys(["model", "optimizer", "scaler", "averaged", "rng"], IN_AN_EPOCH),
    **dict.fromkeys(["loss_sum", "num_correct", "epoch", "step_in_epoch"], IN_AN_EPOCH),
    "grad_norm": AT_ITS_LAST_STEP,
    "best": AT_THE_END,
    "history": AT_THE_END,
}


@pytest.mark.parametrize("when", [IN_AN_EPOCH, AT_ITS_LAST_STEP, AT_THE_END])
def test_nothing_else_is_needed_than_the_state(
    when: dict[str, int], spoilable: tuple[Lab, dict[str, Any]], tmp_path: Path
) -> None:
    lab, expected = spoilable
    whole = run_with(lab, tmp_path, [Watch(**when)])
    assert differences(whole.state_dict(), expected) == []


@pytest.mark.parametrize(("part", "when"), NEEDED.items())
def test_every_part_of_the_state_is_needed(
    part: str, when: dict[str, int], spoilable: tuple[Lab, dict[str, Any]], tmp_path: Path
) -> None:
    lab, expected = spoilable
    spoiled = run_with(lab, tmp_path / "spoiled", [Watch(**when)], spoil=part)
    assert differences(spoiled.state_dict(), expected) != []


def test_every_part_of_the_state_is_tried() -> None:
    by_the_clock, elsewhere = {"seconds", "resumed_at"}, {"rng_cuda", "rng_mps"}
    assert set(LAB.start().state_dict()) == set(NEEDED) | by_the_clock | elsewhere


def test_a_lost_random_stream_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lab = LABS["dropout"]
    expected = straight(lab, tmp_path)
    monkeypatch.setattr(torch, "set_rng_state", lambda state: None)
    resumed = run_with(lab, tmp_path / "resumed", [Watch(steps=6)])
    assert ".model.1.weight" in differences(resumed.state_dict(), expected)
