"""What tests of sweeps share."""

import pytest
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode

from tinylab.config import compose
from tinylab.config.folders import conf_folder
from tinylab.sweeps.job import Composer


@pytest.fixture(scope="module")
def composer() -> Composer:
    compose.register_schema()
    with initialize_config_dir(str(conf_folder()), version_base="1.3"):
        hydra = GlobalHydra.instance().hydra
        assert hydra is not None
        master = hydra.compose_config("config", [], run_mode=RunMode.MULTIRUN)
    return Composer(hydra.config_loader, master)
