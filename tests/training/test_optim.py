"""Optimizers against torch.optim to the last bit, and the learning rate against its formulas."""

import copy
import dataclasses
import itertools
import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from option_records import AdamConfig, AdamwConfig, MuonConfig, SgdConfig
from tinylab.config.base_records import OptimConfig
from tinylab.training import optim
from tinylab.training.optimizers.muon import orthogonal

LIKE_TORCH: list[OptimConfig] = [
    AdamConfig(lr=0.01),
    AdamConfig(lr=0.01, weight_decay=0.1, beta1=0.5, beta2=0.9, eps=1e-4),
    AdamwConfig(lr=0.01, weight_decay=0.1),
    SgdConfig(lr=0.1, weight_decay=0.01),
    SgdConfig(lr=0.1, nesterov=False),
    SgdConfig(lr=0.1, momentum=0.0, nesterov=False, weight_decay=0.01),
]
CONFIGS = [*LIKE_TORCH, MuonConfig(lr=0.02, weight_decay=0.1, rest_lr=0.01)]


def label(config: OptimConfig) -> str:
    return f"{config.name}{CONFIGS.index(config)}"


like_torch = pytest.mark.parametrize("config", LIKE_TORCH, ids=label)
every_config = pytest.mark.parametrize("config", CONFIGS, ids=label)


class Branches(nn.Module):
    """A network with a norm, and a branch that is used in some steps only."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten())
        self.output, self.branch = nn.Linear(4 * 9, 3), nn.Linear(4 * 9, 3)

    def forward(self, images: Tensor, use_branch: bool) -> Tensor:
        features = self.trunk(images)
        logits: Tensor = self.output(features)
        return logits + self.branch(features) if use_branch else logits


def network(memory_format: torch.memory_format = torch.contiguous_format) -> Branches:
    torch.manual_seed(0)
    return Branches().to(memory_format=memory_format)


def backward(model: Branches, step: int, use_branch: bool = True) -> None:
    """Give the model the gradients of one step, the same for equal weights."""
    generator = torch.Generator().manual_seed(step)
    model.zero_grad()
    model(torch.randn(6, 1, 5, 5, generator=generator), use_branch).square().mean().backward()


def of_torch(config: OptimConfig, model: nn.Module) -> torch.optim.Optimizer:
    """What torch.optim makes of the config, with the decay groups written by hand."""
    weights = [p for p in model.parameters() if p.dim() > 1]
    others = [p for p in model.parameters() if p.dim() <= 1]
    groups: list[dict[str, Any]] = [
        {"params": weights, "weight_decay": config.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    if isinstance(config, SgdConfig):
        return torch.optim.SGD(
            groups, config.lr, config.momentum, nesterov=config.nesterov, fused=True
        )
    assert isinstance(config, AdamConfig | AdamwConfig)
    kind = torch.optim.AdamW if config.name == "adamw" else torch.optim.Adam
    return kind(groups, config.lr, (config.beta1, config.beta2), config.eps, fused=True)


def set_rate(ours: optim.Optimizer, theirs: torch.optim.Optimizer, lr: float) -> None:
    ours.lr = lr
    for group in theirs.param_groups:
        group["lr"] = lr


def are_equal(one: nn.Module, other: nn.Module) -> bool:
    pairs = zip(one.parameters(), other.parameters(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


# ---------------------------------------------------------------- updates


@like_torch
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_twenty_steps_are_those_of_torch(
    config: OptimConfig, memory_format: torch.memory_format
) -> None:
    model = network(memory_format)
    copied = copy.deepcopy(model)
    ours, theirs = optim.build(config, model), of_torch(config, copied)
    for step in range(20):
        set_rate(ours, theirs, config.lr / (1 + step))
        backward(model, step)
        backward(copied, step)
        ours.step()
        theirs.step()
    assert are_equal(model, copied)
    assert not are_equal(model, network())


@like_torch
@pytest.mark.parametrize("used", [[0, 1, 1, 0], [1, 0, 0, 1], [0, 0, 0, 0]])
def test_parameters_without_a_gradient_are_left_alone(config: OptimConfig, used: list[int]) -> None:
    model = network()
    copied = copy.deepcopy(model)
    ours, theirs = optim.build(config, model), of_torch_in_halves(config, copied)
    for step, use_branch in enumerate(used):
        for each in (model, copied):
            backward(each, step, bool(use_branch))
        ours.step()
        for half in theirs:
            half.step()
    assert are_equal(model, copied)
    assert torch.equal(model.branch.weight, network().branch.weight) == (not any(used))


def of_torch_in_halves(config: OptimConfig, model: Branches) -> list[torch.optim.Optimizer]:
    """An optimizer for the branch alone; torch's fused SGD cannot have momenta for some only."""
    trunk = nn.ModuleList([model.trunk, model.output])
    return [of_torch(config, trunk), of_torch(config, model.branch)]


def test_a_step_without_any_gradient_changes_nothing() -> None:
    for config in CONFIGS:
        model = network()
        optim.build(config, model).step()
        assert are_equal(model, network())


@every_config
def test_a_saved_state_goes_on_to_the_same_bits(config: OptimConfig) -> None:
    model = network()
    optimizer = optim.build(config, model)
    run(model, optimizer, range(5))
    saved, copied = copy.deepcopy(optimizer.state_dict()), copy.deepcopy(model)
    run(model, optimizer, range(5, 9))
    resumed = optim.build(config, copied)
    resumed.load_state_dict(saved)
    run(copied, resumed, range(5, 9))
    assert are_equal(model, copied)


@pytest.mark.parametrize("config", [CONFIGS[0], CONFIGS[2], CONFIGS[3], CONFIGS[-1]], ids=label)
def test_without_its_state_it_would_not(config: OptimConfig) -> None:
    model = network()
    optimizer = optim.build(config, model)
    run(model, optimizer, range(5))
    copied = copy.deepcopy(model)
    run(model, optimizer, range(5, 9))
    run(copied, optim.build(config, copied), range(5, 9))
    assert not are_equal(model, copied)


def run(model: Branches, optimizer: optim.Optimizer, steps: range) -> None:
    for step in steps:
        backward(model, step, use_branch=step % 3 > 0)
        optimizer.step()


def test_loading_copies_so_that_the_saved_state_stays_what_it_is() -> None:
    for config in CONFIGS:
        model = network()
        optimizer = optim.build(config, model)
        run(model, optimizer, range(2))
        saved = copy.deepcopy(optimizer.state_dict())
        other = optim.build(config, model)
        other.load_state_dict(saved)
        run(model, other, range(2))
        assert str(saved) == str(optimizer.state_dict())


# ---------------------------------------------------------------- Muon


def test_muon_is_that_of_torch_on_matrices() -> None:
    config = MuonConfig(lr=0.02, weight_decay=0.1, momentum=0.9, rest_lr=0.01)
    model, copied = network(), network()
    ours = optim.build(config, model)
    hidden = [copied.trunk[0].weight, copied.output.weight]
    matrices = [nn.Parameter(weight.detach().flatten(1).clone()) for weight in hidden]
    muon = torch.optim.Muon(matrices, config.lr, config.weight_decay, config.momentum)
    rest = AdamwConfig(lr=config.rest_lr, weight_decay=config.weight_decay)
    adamw = of_torch(rest, nn.ModuleList([copied.trunk[1], copied.branch]))
    adamw.param_groups[1]["params"] += [copied.trunk[0].bias, copied.output.bias]
    for step in range(10):
        backward(model, step)
        backward(copied, step)
        ours.lr = config.lr / (1 + step)
        set_rate(ours, muon, ours.lr)
        adamw.param_groups[0]["lr"] = adamw.param_groups[1]["lr"] = config.rest_lr / (1 + step)
        for matrix, weight in zip(matrices, hidden, strict=True):
            matrix.grad = weight.grad.flatten(1).clone()
        ours.step()
        muon.step()
        adamw.step()
        with torch.no_grad():
            for matrix, weight in zip(matrices, hidden, strict=True):
                weight.copy_(matrix.view_as(weight))
    assert are_equal(model, copied)
    assert not are_equal(model, network())


def test_muon_takes_kernels_in_either_memory_format() -> None:
    models = [network(), network(torch.channels_last)]
    for model in models:
        optimizer = optim.build(MuonConfig(), model)
        backward(model, 0)
        optimizer.step()
    one, other = (model.trunk[0].weight for model in models)
    # The columns are in another order, so bfloat16 rounds to other bits.
    torch.testing.assert_close(one, other, atol=1e-3, rtol=0)
    assert (one - network().trunk[0].weight).abs().max() > 5e-3


@given(
    st.integers(1, 40), st.integers(1, 40), st.integers(0, 10**6), st.sampled_from([1e-4, 1.0, 1e4])
)
def test_orthogonal_keeps_the_singular_vectors(
    rows: int, columns: int, seed: int, size: float
) -> None:
    generator = torch.Generator().manual_seed(seed)
    U, _, Vh = torch.linalg.svd(
        torch.randn(rows, columns, generator=generator), full_matrices=False
    )
    values = 0.5 + torch.rand(min(rows, columns), generator=generator)
    made = orthogonal(size * (U * values) @ Vh).float()
    assert made.shape == (rows, columns)
    inner = U.T @ made @ Vh.T  # diagonal, with about 1 there
    assert torch.all((inner.diagonal() > 0.6) & (inner.diagonal() < 1.3))
    assert (inner - inner.diagonal().diag()).abs().max() < 0.1


def test_orthogonal_of_nothing_is_nothing() -> None:
    assert torch.equal(orthogonal(torch.zeros(3, 5)).float(), torch.zeros(3, 5))


# ---------------------------------------------------------------- groups


def test_decay_spares_biases_and_norms() -> None:
    model = network()
    decayed, spared = optim.parameter_groups(model, 0.1)
    assert (decayed["weight_decay"], spared["weight_decay"]) == (0.1, 0.0)
    weights = [model.trunk[0].weight, model.output.weight, model.branch.weight]
    assert same_objects(decayed["params"], weights)
    norm = [model.trunk[1].weight, model.trunk[1].bias]
    biases = [model.trunk[0].bias, *norm, model.output.bias, model.branch.bias]
    assert same_objects(spared["params"], biases)


def same_objects(result: list[Tensor], expected: list[Any]) -> bool:
    return list(map(id, result)) == list(map(id, expected))


def test_without_decay_there_is_one_group() -> None:
    (group,) = optim.parameter_groups(network(), 0.0)
    assert (len(group["params"]), group["weight_decay"]) == (8, 0.0)


def test_frozen_parameters_are_in_no_group() -> None:
    model = network()
    model.trunk.requires_grad_(False)
    groups = optim.parameter_groups(model, 0.1)
    assert sum(len(group["params"]) for group in groups) == 4


# ---------------------------------------------------------------- the backbone's rate


def of_torch_by_parts(config: OptimConfig, model: Branches) -> torch.optim.Optimizer:
    """torch.optim with the head, which is ``branch``, in groups of its own."""
    theirs = of_torch(config, model)
    of_head = {id(parameter) for parameter in model.branch.parameters()}
    for group in list(theirs.param_groups):
        head = [p for p in group["params"] if id(p) in of_head]
        group["params"] = [p for p in group["params"] if id(p) not in of_head]
        theirs.add_param_group({**group, "params": head, "is_head": True})
    return theirs


@like_torch
@pytest.mark.parametrize("factor", [0.1, 3.0])
def test_the_backbone_has_a_rate_of_its_own_as_groups_of_torch(
    config: OptimConfig, factor: float
) -> None:
    model = network()
    copied = copy.deepcopy(model)
    ours = optim.build(dataclasses.replace(config, backbone_lr=factor), model)
    theirs = of_torch_by_parts(config, copied)
    for step in range(20):
        lr = config.lr / (1 + step)
        ours.lr = lr
        for group in theirs.param_groups:
            group["lr"] = lr if "is_head" in group else lr * factor
        backward(model, step)
        backward(copied, step)
        ours.step()
        theirs.step()
    assert are_equal(model, copied)


def test_muon_moves_hidden_weights_by_the_rate_of_the_backbone() -> None:
    moved = []
    for factor in (1.0, 0.25):
        model = network()
        config = MuonConfig(lr=0.02, weight_decay=0.0, backbone_lr=factor)
        optimizer = optim.build(config, model)
        backward(model, 0)
        optimizer.step()
        pairs = zip(model.parameters(), network().parameters(), strict=True)
        moved.append([after - before for after, before in pairs])
    names = [name for name, _ in network().named_parameters()]
    for name, whole, quarter in zip(names, *moved, strict=True):
        fraction = 1.0 if name.startswith("branch") else 0.25
        torch.testing.assert_close(quarter, fraction * whole, rtol=1e-3, atol=1e-7)


@every_config
def test_a_backbone_of_rate_0_stays_bit_for_bit(config: OptimConfig) -> None:
    model = network()
    optimizer = optim.build(dataclasses.replace(config, backbone_lr=0.0), model)
    run(model, optimizer, range(5))
    for (name, result), before in zip(
        model.named_parameters(), network().parameters(), strict=True
    ):
        assert torch.equal(result, before) == (not name.startswith("branch")), name


@every_config
@pytest.mark.parametrize("factor", [0.0, 0.1])
def test_a_rate_in_a_tensor_stays_one(config: OptimConfig, factor: float) -> None:
    models = [network(), network()]
    for model, lr in zip(models, (config.lr, torch.tensor(config.lr)), strict=True):
        optimizer = optim.build(dataclasses.replace(config, backbone_lr=factor), model)
        optimizer.lr = lr
        group = {"lr_factor": factor}
        assert type(optim.group_lr(lr, group)) is type(lr)
        if config.name != "muon" and isinstance(lr, Tensor):
            continue  # the fused kernels take tensors on CUDA alone
        backward(model, 0)
        optimizer.step()


def test_without_a_rate_of_its_own_the_backbone_is_in_no_group_of_its_own() -> None:
    assert [*optim.parameter_groups(network(), 0.1, 1.0)[0]] == ["params", "weight_decay"]


# ---------------------------------------------------------------- learning rate


def rates(config: OptimConfig, total: int) -> list[float]:
    return [optim.learning_rate(config, step, total) for step in range(total)]


def rates_of(scheduler: torch.optim.lr_scheduler.LRScheduler, count: int) -> Iterator[Any]:
    for _ in range(count):
        yield scheduler.get_last_lr()[0]
        scheduler.optimizer.step()
        scheduler.step()


def plain_sgd(lr: float) -> torch.optim.SGD:
    return torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr)


def test_constant_is_constant() -> None:
    assert rates(AdamConfig(lr=0.3), 5) == [0.3] * 5


@pytest.mark.parametrize("final", [0.0, 0.1])
def test_cosine_is_the_cosine_annealing_of_torch(final: float) -> None:
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(plain_sgd(0.3), 17, 0.3 * final)
    config = AdamConfig(lr=0.3, schedule="cosine", final=final)
    assert rates(config, 17) == pytest.approx(list(rates_of(scheduler, 17)), rel=1e-9)


@pytest.mark.parametrize(("warmup", "final"), [(None, 0.0), (0.5, 0.0), (0.1, 0.02)])
def test_onecycle_is_the_one_cycle_of_torch(warmup: float | None, final: float) -> None:
    # torch comes to the end in the last step; ours after it, in a step that is not made.
    rise = 40 * (0.3 if warmup is None else warmup)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(
        plain_sgd(0.3), 0.3, total_steps=41, pct_start=(rise + 1) / 41, cycle_momentum=False,
        final_div_factor=1 / (25 * final) if final else math.inf,
    )  # fmt: skip
    config = SgdConfig(lr=0.3, schedule="onecycle", warmup=warmup, final=final)
    assert rates(config, 40) == pytest.approx(list(rates_of(scheduler, 40)), rel=1e-9)


def test_warm_up_is_linear_and_ends_at_the_peak() -> None:
    for schedule in ("constant", "cosine"):
        config = AdamConfig(lr=0.4, schedule=schedule, warmup=0.4)
        assert rates(config, 10)[:5] == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.4])


@st.composite
def schedules(draw: st.DrawFn) -> tuple[OptimConfig, int]:
    fractions = st.floats(0, 0.99)
    config = AdamConfig(
        lr=draw(st.floats(1e-6, 10)),
        schedule=draw(st.sampled_from(["constant", "cosine", "onecycle"])),
        warmup=draw(st.none() | fractions),
        final=draw(fractions),
    )
    return config, draw(st.integers(1, 300))


@given(schedules())
def test_rates_stay_between_0_and_the_peak(case: tuple[OptimConfig, int]) -> None:
    config, total = case
    assert all(0 < lr <= config.lr * (1 + 1e-12) for lr in rates(config, total))


@given(schedules())
def test_rates_rise_and_then_fall(case: tuple[OptimConfig, int]) -> None:
    config, total = case
    result = rates(config, total)
    top = result.index(max(result))
    slack = 1e-9 * config.lr
    assert all(a <= b + slack for a, b in itertools.pairwise(result[: top + 1]))
    assert all(a >= b - slack for a, b in itertools.pairwise(result[top:]))


@given(schedules())
def test_the_rate_after_the_last_step_is_the_final_one(case: tuple[OptimConfig, int]) -> None:
    config, total = case
    final = config.lr if config.schedule == "constant" else config.lr * config.final
    assert optim.learning_rate(config, total, total) == pytest.approx(final, abs=1e-12 * config.lr)


def test_one_cycle_begins_at_a_25th_of_the_peak() -> None:
    config = SgdConfig(lr=0.5, schedule="onecycle")
    result = rates(config, 100)
    assert result[0] == pytest.approx(0.02)
    assert result[30] == pytest.approx(0.5) == max(result)
