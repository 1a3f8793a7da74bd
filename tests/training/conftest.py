"""Networks this small compute on one thread: two wait for each other on a busy machine."""

import pytest


@pytest.fixture(scope="module", autouse=True)
def _alone(one_thread: None) -> None:
    pass
