"""Training of networks of which a part is frozen, or moves slowly."""

from pathlib import Path
from typing import Any

import pytest
import torch

from option_records import (
    AdamConfig,
    AdamwConfig,
    BaselineConfig,
    MuonConfig,
    ResnetConfig,
    SgdConfig,
)
from tinylab.config.base_records import OptimConfig
from tinylab.models.pretrained import head
from tinylab.training.state import Training
from training_kit import Lab, changed, differences

pytestmark = pytest.mark.costly

OPTIMIZERS: list[OptimConfig] = [
    AdamConfig(lr=0.01, weight_decay=0.1), AdamwConfig(lr=0.01), MuonConfig(), SgdConfig(),
]  # fmt: skip
LAB = Lab(train={"epochs": 2})
every_optimizer = pytest.mark.parametrize("optim", OPTIMIZERS, ids=lambda each: each.name)


def trained(lab: Lab, folder: Path) -> Training:
    return lab.run(folder / "run")


def changed_names(training: Training, lab: Lab) -> set[str]:
    """The weights and statistics that are not to the bit what they were."""
    before = lab.build().state_dict()
    return {name for name, value in training.tested().state_dict().items()
            if not torch.equal(value, before[name])}  # fmt: skip


@every_optimizer
@pytest.mark.parametrize("ema", [None, 0.9])
def test_a_frozen_backbone_is_bit_for_bit_what_it_was(
    optim: OptimConfig, ema: float | None, tmp_path: Path
) -> None:
    model = ResnetConfig(width=4, stages=2, freeze="backbone")
    lab = changed(LAB, optim=optim, model=model, train={"epochs": 2, "ema": ema})
    training = trained(lab, tmp_path)
    name, _ = head(training.model)
    assert changed_names(training, lab) == {f"{name}.weight", f"{name}.bias"}


def test_without_a_freeze_weights_and_statistics_all_change(tmp_path: Path) -> None:
    lab = changed(LAB, model=ResnetConfig(width=4, stages=2))
    assert changed_names(trained(lab, tmp_path), lab) == lab.build().state_dict().keys()


def test_a_pattern_freezes_its_weights_and_the_statistics_of_their_norms(tmp_path: Path) -> None:
    lab = changed(LAB, model=ResnetConfig(width=4, stages=2, freeze=r"blocks\.0"))
    state = lab.build().state_dict().keys()
    expected = {name for name in state if not name.startswith("blocks.0")}
    assert len(expected) < len(state)
    assert changed_names(trained(lab, tmp_path), lab) == expected


@every_optimizer
def test_a_backbone_of_rate_0_is_a_frozen_one_where_there_are_no_norms(
    optim: OptimConfig, tmp_path: Path
) -> None:
    results: list[dict[str, Any]] = []
    values = vars(optim)
    for factor, freeze in ((0.0, "none"), (1.0, "backbone")):
        lab = changed(
            LAB,
            optim=type(optim)(**{**values, "backbone_lr": factor}),
            model=BaselineConfig(filters=4, hidden=8, freeze=freeze),
        )
        results.append(trained(lab, tmp_path / freeze).tested().state_dict())
    assert differences(*results) == []
    assert differences(results[0], LAB.build().state_dict()) != []


def test_frozen_parameters_have_no_gradient_and_no_state_of_the_optimizer(tmp_path: Path) -> None:
    lab = changed(LAB, model=BaselineConfig(filters=4, hidden=8, freeze="backbone"))
    training = trained(lab, tmp_path)
    parameters = dict(training.model.named_parameters())
    kept = [name for name, each in parameters.items() if each.grad is not None]
    assert len(kept) == 2
    state = training.optimizer.state_dict()
    assert sum(len(group) for group in state["means"]) == 2
