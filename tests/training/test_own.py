"""Loss, augmentation, schedule and optimizer of a user's own file, and what is refused of them."""

import dataclasses
import math
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from option_records import AdamConfig, AdamwConfig, SgdConfig, TorchOptimConfig
from tinylab.config import options
from tinylab.config.base_records import AugmentConfig, LossConfig, ScheduleConfig
from tinylab.config.option import FOLDERS
from tinylab.errors import Stopped, UserError
from tinylab.training import loop, optim, own
from tinylab.training.capture import Captured
from tinylab.training.evaluate import evaluate
from tinylab.training.state import Recipe
from training_kit import CPU, Lab, Watch, differences, tiny_batches

HEAD = """import math
import random

import numpy as np
import tinylab
import torch
import torch.nn.functional as F
from torch import nn


"""
Declare = Callable[[str], Any]


@pytest.fixture
def declared(tmp_path: Path) -> Iterator[Declare]:
    """Makes the record of the one option that a source declares."""

    def declare(source: str) -> Any:
        file = tmp_path / "mine.py"
        file.write_text(HEAD + source)
        options.use_files([file])
        [result] = [
            option
            for group in FOLDERS
            for option in options.options(group).values()
            if not option.is_builtin
        ]
        return result.record()

    yield declare
    options.use_files([])


def two_lines(refused: Any) -> str:
    message = str(refused.value)
    assert len(message.splitlines()) == 2
    return message


# ---------------------------------------------------------------- loss


def loss_of(record: Any, mixed: bool = False) -> own.Loss:
    result = own.loss(record, 3, CPU, mixed)
    assert result is not None
    return result


@pytest.mark.parametrize(
    "source",
    [
        "@tinylab.loss\ndef mine(logits, targets, scale: float = 2.0):\n"
        "    return scale * F.cross_entropy(logits, targets)\n",
        "@tinylab.loss\nclass Mine(nn.Module):\n"
        "    def __init__(self, scale: float = 2.0):\n"
        "        super().__init__()\n        self.scale = scale\n"
        "    def forward(self, logits, targets):\n"
        "        return self.scale * F.cross_entropy(logits, targets)\n",
    ],
)
def test_a_function_and_a_class_are_losses(declared: Declare, source: str) -> None:
    logits, labels = torch.randn(5, 3), torch.tensor([0, 1, 2, 2, 1])
    result = loss_of(declared(source), mixed=True)(logits, labels)
    assert torch.equal(result, 2 * F.cross_entropy(logits, labels))


def test_the_built_in_parts_are_none() -> None:
    assert own.loss(LossConfig(), 3, CPU, mixed=False) is None
    assert own.augmentation(AugmentConfig(), tiny_batches(4)) is None
    assert own.schedule(ScheduleConfig(), 10) is None


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("return F.cross_entropy(logits, targets, reduction='none')", "gives 8 for 8 images"),
        ("return F.cross_entropy(logits, targets).item()", "gives a float for 8 images"),
        ("return F.cross_entropy(logits, targets) * math.inf", "gives inf; expected a finite"),
        ("return F.cross_entropy(logits.detach(), targets)", "has no gradient"),
        ("return (logits.argmax(1) != targets).float().mean()", "has no gradient"),
        ("return (logits * 0).norm(dim=1).mean() + (logits * 0).sqrt().sum()", "not finite"),
    ],
)
def test_what_is_no_loss_is_refused_in_two_lines(declared: Declare, body: str, words: str) -> None:
    record = declared(f"@tinylab.loss\ndef mine(logits, targets):\n    {body}\n")
    with pytest.raises(UserError) as refused:
        loss_of(record)
    assert "loss=mine: " in two_lines(refused)
    assert words in str(refused.value)
    assert "mine.py" in str(refused.value)


def test_a_loss_with_parameters_is_refused(declared: Declare) -> None:
    record = declared("@tinylab.loss\nclass Mine(nn.Linear):\n"
                      "    def __init__(self): super().__init__(3, 3)\n")  # fmt: skip
    with pytest.raises(UserError, match="has parameters, which are not trained") as refused:
        loss_of(record)
    two_lines(refused)


def test_mixed_targets_are_refused_where_a_loss_fails_on_them(declared: Declare) -> None:
    body = "return -logits.log_softmax(1).gather(1, targets[:, None]).mean()"
    record = declared(f"@tinylab.loss\ndef mine(logits, targets):\n    {body}\n")
    loss_of(record)
    with pytest.raises(UserError, match=r"augment\.mixup or augment\.cutmix") as refused:
        loss_of(record, mixed=True)
    two_lines(refused)


def test_a_mistake_in_a_loss_shows_its_line_and_the_shapes(declared: Declare) -> None:
    record = declared("@tinylab.loss\ndef mine(logits, targets):\n    return logits.no_such()\n")
    with pytest.raises(UserError) as error:
        loss_of(record)
    assert "in mine (logits: 8x3, targets: 8)\n    return logits.no_such()" in str(error.value)
    assert "torch/" not in str(error.value)


def test_trying_a_loss_leaves_the_global_stream_alone(declared: Declare) -> None:
    record = declared("@tinylab.loss\ndef mine(logits, targets):\n"
                      "    return F.cross_entropy(F.dropout(logits), targets)\n")  # fmt: skip
    before = torch.get_rng_state()
    loss_of(record)
    assert torch.equal(torch.get_rng_state(), before)


def test_the_loss_of_an_evaluation_is_the_users_and_the_nll_stays(declared: Declare) -> None:
    record = declared("@tinylab.loss\ndef mine(logits, targets):\n"
                      "    return 2 * F.cross_entropy(logits, targets)\n")  # fmt: skip
    lab = Lab(train={"eval_batch_size": 7})
    recipe, model = lab.recipe(), lab.build()
    plain = evaluate(model, lab.batches(20), recipe).score
    other = evaluate(model, lab.batches(20), dataclasses.replace(recipe, loss=loss_of(record)))
    assert math.isclose(other.score.loss, 2 * plain.loss, rel_tol=1e-6)
    assert other.score.nll == plain.nll


def test_a_loss_that_is_not_finite_in_evaluation_is_refused() -> None:
    def infinite(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return logits.sum() * math.inf

    lab = Lab()
    recipe = dataclasses.replace(lab.recipe(), loss=own.Loss("", "", infinite))
    with pytest.raises(UserError, match=r"gives (nan|-?inf) in evaluation"):
        evaluate(lab.build(), lab.batches(20), recipe)


# ---------------------------------------------------------------- augmentation


NOISE = """@tinylab.augmentation
def mine(images, generator, amount: float = 0.25):
    return images + amount * torch.randn(images.shape, generator=generator)
"""


def augmentation_of(record: Any) -> own.Augmentation:
    result = own.augmentation(record, tiny_batches(20))
    assert result is not None
    return result


def test_an_augmentation_sees_images_from_0_to_1_and_draws_by_its_seed(declared: Declare) -> None:
    made = augmentation_of(declared(NOISE))
    pixels = tiny_batches(5).images.float()
    first, same, other = made(pixels, 1), made(pixels, 1), made(pixels, 2)
    assert torch.equal(first, same)
    assert not torch.equal(first, other)
    noise = torch.randn(pixels.shape, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(first, pixels + 255 * 0.25 * noise)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("return images[:, :, 1:]", "gives float32 8x1x7x8 for images of float32 8x1x8x8"),
        ("return (images * 255).byte()", "gives uint8 8x1x8x8"),
        ("return images, 1", "gives a tuple"),
        ("images.unsqueeze_(0)", "gives a NoneType for images of float32 8x1x8x8"),
    ],
)
def test_what_is_no_augmentation_is_refused_in_two_lines(
    declared: Declare, body: str, words: str
) -> None:
    source = f"@tinylab.augmentation\ndef mine(images, generator):\n    {body}\n"
    with pytest.raises(UserError) as refused:
        augmentation_of(declared(source))
    assert words in two_lines(refused)


@pytest.mark.parametrize(
    ("body", "stream"),
    [
        ("torch.rand(3)", "torch"),
        ("random.random()", "random"),
        ("np.random.rand()", "numpy.random"),
    ],
)
def test_a_global_generator_is_warned_about_and_put_back(
    declared: Declare, capsys: pytest.CaptureFixture[str], body: str, stream: str
) -> None:
    record = declared(
        f"@tinylab.augmentation\ndef mine(images, generator):\n    {body}\n    return images\n"
    )
    before = (torch.get_rng_state().tolist(), random.getstate(), str(np.random.get_state()))
    augmentation_of(record)
    output = capsys.readouterr().out
    assert f"warning: augment=mine uses the global generator of {stream}," in output
    assert (torch.get_rng_state().tolist(), random.getstate(), str(np.random.get_state())) == before


def test_values_from_0_to_255_are_warned_about(
    declared: Declare, capsys: pytest.CaptureFixture[str]
) -> None:
    augmentation_of(
        declared("@tinylab.augmentation\ndef mine(images, generator):\n    return images * 255\n")
    )
    output = capsys.readouterr().out
    assert "warning: augment=mine: gives values from 0 to 25" in output
    assert "expected 0 to 1" in output


def test_the_given_generator_is_not_warned_about(
    declared: Declare, capsys: pytest.CaptureFixture[str]
) -> None:
    augmentation_of(declared(NOISE))
    assert capsys.readouterr().out == ""


# ---------------------------------------------------------------- schedule


def schedule_of(record: Any, steps: int = 10) -> own.Schedule:
    result = own.schedule(record, steps)
    assert result is not None
    return result


def test_a_schedule_is_the_factor_after_the_warm_up(declared: Declare) -> None:
    record = declared("@tinylab.schedule\ndef mine(step, steps, power: float = 2.0):\n"
                      "    return (1 - step / steps) ** power\n")  # fmt: skip
    made = schedule_of(record)
    config = AdamConfig(lr=0.5, schedule="onecycle")
    rates = [optim.learning_rate(config, step, 10, made) for step in range(10)]
    assert rates == [0.5 * (1 - step / 10) ** 2 for step in range(10)]
    config = AdamConfig(lr=0.5, warmup=0.25)
    rates = [optim.learning_rate(config, step, 10, made) for step in range(10)]
    assert rates[:3] == [0.5 * (step + 1) / 2.5 if step < 2 else 0.5 for step in range(3)]
    assert rates[3:] == [0.5 * (1 - step / 7) ** 2 for step in range(7)]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("return -0.5", "gives -0.5 for step 0 of 10"),
        ("return math.nan", "gives nan for step 0 of 10"),
        ("return 'fast'", "gives a str for step 0 of 10"),
        ("return random.random()", "expected a function of step and steps alone"),
    ],
)
def test_what_is_no_schedule_is_refused_in_two_lines(
    declared: Declare, body: str, words: str
) -> None:
    source = f"@tinylab.schedule\ndef mine(step, steps):\n    {body}\n"
    with pytest.raises(UserError) as refused:
        schedule_of(declared(source))
    assert words in two_lines(refused)


# ---------------------------------------------------------------- optimizer


MOMENTUM = """@tinylab.optimizer
class Mine(torch.optim.SGD):
    def __init__(self, params, lr: float = 0.05, momentum: float = 0.9):
        super().__init__(params, lr=lr, momentum=momentum)
"""
BFLOAT16 = """@tinylab.optimizer
class Mine(torch.optim.Optimizer):
    def __init__(self, params, lr: float = 0.05):
        super().__init__(params, {"lr": lr})

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for p in group["params"]:
                sum_ = self.state[p].setdefault("sum", torch.zeros_like(p, dtype=torch.bfloat16))
                sum_.mul_(0.9).add_(p.grad)
                p.sub_(group["lr"] * sum_.float())
"""
NOISY = BFLOAT16.replace("p.sub_(", "p.sub_(0.01 * torch.randn_like(p) + ")
FUNCTION = """@tinylab.optimizer
def mine(params, lr, momentum: float = 0.9):
    return torch.optim.SGD(params, lr=lr, momentum=momentum)
"""


INHERITED = """@tinylab.optimizer
class Mine(torch.optim.Adam):
    def step(self, closure=None):
        return super().step(closure)
"""


@pytest.mark.costly  # imports torch's compiler
@pytest.mark.parametrize("source", [MOMENTUM, BFLOAT16, NOISY, FUNCTION, INHERITED])
def test_training_by_an_own_optimizer_resumes_with_the_same_bits(
    declared: Declare, tmp_path: Path, source: str
) -> None:
    lab = Lab(optim=declared(source))
    optim.rehearse(lab.optim, lab.build())
    expected = lab.run(tmp_path / "straight").state_dict()
    with pytest.raises(Stopped):
        lab.run(tmp_path / "stopped", Watch(steps=6))
    assert differences(lab.run(tmp_path / "stopped").state_dict(), expected) == []
    with pytest.raises(Stopped):
        lab.run(tmp_path / "spoiled", Watch(steps=6))
    spoiled = lab.run(tmp_path / "spoiled", spoil="optimizer")
    assert differences(spoiled.state_dict(), expected) != []


@pytest.mark.costly  # imports torch's compiler
@pytest.mark.parametrize("config", [
    SgdConfig(lr=0.05, weight_decay=0.01, schedule="onecycle"), AdamConfig(lr=0.01),
    AdamwConfig(lr=0.01, weight_decay=0.1, schedule="cosine", warmup=0.1),
], ids=lambda config: config.name)  # fmt: skip
def test_torchs_optimizers_by_name_have_the_bits_of_the_built_in_ones(
    tmp_path: Path, config: Any
) -> None:
    names = {"sgd": "SGD", "adam": "Adam", "adamw": "AdamW"}
    own_keys = {"sgd": {"momentum": 0.9, "nesterov": True}}
    common = {key: getattr(config, key) for key in ("lr", "weight_decay", "schedule", "warmup")}
    args = {"fused": True, **own_keys.get(config.name, {})}
    by_name = TorchOptimConfig(algorithm=names[config.name], args=args, **common)
    ours, theirs = (
        Lab(optim=each).run(tmp_path / each.name).state_dict() for each in (config, by_name)
    )
    assert differences(ours["model"], theirs["model"]) == []


@pytest.mark.costly  # imports torch's compiler
@pytest.mark.parametrize(
    ("source", "words"),
    [
        (
            MOMENTUM.replace("SGD", "LBFGS").replace(", momentum=momentum", ""),
            "needs a closure",
        ),
        (
            MOMENTUM.replace("SGD", "SparseAdam").replace(", momentum=momentum", ""),
            "SparseAdam does not support dense gradients",
        ),
        (
            BFLOAT16.replace(
                "for group", "self.n = getattr(self, 'n', 0) + 1\n        for group", 1
            ).replace("0.9", "0.9 / self.n"),
            "does not resume bit-identically",
        ),
        (
            BFLOAT16.replace("sum_.mul_", "self.state[p]['kind'] = nn.Linear; sum_.mul_"),
            "cannot be read back from a checkpoint",
        ),
        (FUNCTION.replace("return ", "return 1 or "), "gives a int"),
        (MOMENTUM.replace("momentum=momentum", "momentun=momentum"), "'momentun'"),
    ],
)  # fmt: skip
def test_an_optimizer_that_cannot_be_used_is_refused(
    declared: Declare, source: str, words: str
) -> None:
    record, lab = declared(source), Lab()
    with pytest.raises(UserError) as refused:
        optim.rehearse(record, lab.build())
    assert words in str(refused.value)


def test_weight_decay_without_effect_is_refused(declared: Declare) -> None:
    record = declared(BFLOAT16)
    decaying = dataclasses.replace(record, weight_decay=0.1)
    with pytest.raises(UserError, match=r"optim\.weight_decay=0\.1: Mine has no weight decay"):
        optim.build(decaying, Lab().build())


@pytest.mark.costly  # imports torch's compiler
def test_biases_and_norms_do_not_decay_in_an_own_optimizer_either(declared: Declare) -> None:
    record = dataclasses.replace(declared(MOMENTUM), weight_decay=0.1)
    groups = optim.build(record, Lab().build()).param_groups
    assert [group["weight_decay"] for group in groups] == [0.1, 0.0]
    assert all(p.dim() == 1 for p in groups[1]["params"])


@pytest.mark.costly  # imports torch's compiler
@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"algorithm": "LBFGS"}, "needs a closure"),
        ({"algorithm": "SparseAdam"}, "does not support dense gradients"),
        ({"algorithm": "RMSProp"}, "did you mean 'RMSprop'?"),
        ({"algorithm": "RMSprop", "args": {"momentun": 0.9}}, "did you mean 'momentum'?"),
        ({"algorithm": "RMSprop", "args": {"lr": 0.9}}, "expected optim.lr=..."),
        ({"algorithm": "RMSprop", "args": 3}, "expected a dict"),
        ({"algorithm": "RMSprop", "args": {"momentum": -1}}, "Invalid momentum value: -1"),
        ({"algorithm": "Rprop", "weight_decay": 0.1}, "Rprop has no weight decay"),
    ],
)
def test_what_torch_optim_has_not_is_refused(values: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError) as refused:
        optim.rehearse(TorchOptimConfig(**values), Lab().build())
    assert words in str(refused.value)
    assert len(str(refused.value).splitlines()) <= 2


# ---------------------------------------------------------------- together


ALL = (
    NOISE.replace("shape, generator", "shape, device=images.device, generator")
    + MOMENTUM.replace("Mine", "Heavy")
    + """
@tinylab.loss
def squares(logits, targets):
    return (logits.softmax(1) - F.one_hot(targets, 3)).square().sum(1).mean()

@tinylab.schedule
def falling(step, steps):
    return 1 - step / steps
"""
)


class OwnLab(Lab):
    """A lab whose loss, augmentation and schedule are a user's too."""

    def recipe(self) -> Recipe:
        return dataclasses.replace(
            super().recipe(),
            loss=own.loss(options.record("loss", "squares"), 3, self.device, mixed=False),
            augmentation=own.augmentation(options.record("augment", "mine"), self.batches(20)),
            schedule=own.schedule(options.record("schedule", "falling"), 12),
            is_own=True,
        )


@pytest.mark.parametrize("device", [
    CPU,
    pytest.param(
        torch.device("cuda"),
        marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
    ),
], ids=str)  # fmt: skip
def test_training_by_own_parts_resumes_in_the_middle_of_an_epoch_with_the_same_bits(
    tmp_path: Path, device: torch.device
) -> None:
    file = tmp_path / "all.py"
    file.write_text(HEAD + ALL)
    options.use_files([file])
    try:
        lab = OwnLab(optim=options.record("optim", "heavy"), device=device)
        optim.rehearse(lab.optim, lab.build())
        expected = lab.run(tmp_path / "straight").state_dict()
        with pytest.raises(Stopped):
            lab.run(tmp_path / "stopped", Watch(steps=6))
        assert differences(lab.run(tmp_path / "stopped").state_dict(), expected) == []
        other = dataclasses.replace(lab, seed=1).run(tmp_path / "other").state_dict()
        assert differences(other, expected) != []
    finally:
        options.use_files([])
    assert [row["lr"] for row in expected["history"]] == [
        0.05 * (1 - step / 12) for step in (3, 7, 11)
    ]


def test_no_step_of_own_parts_is_recorded() -> None:
    recipe = dataclasses.replace(Lab().recipe(), device=torch.device("cuda"))
    torchs = TorchOptimConfig(algorithm="SGD")
    for changes in ({"is_own": True}, {"optim": torchs}):
        step = loop._full_step(Lab().start(), dataclasses.replace(recipe, **changes))  # type: ignore[arg-type]
        assert not isinstance(step, Captured)
    assert isinstance(loop._full_step(Lab().start(), recipe), Captured)
