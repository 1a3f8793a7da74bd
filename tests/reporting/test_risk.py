"""The risk-coverage curve against a loop over thresholds."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinylab.reporting.risk import risk_coverage


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=1, max_size=30))
def test_the_curve_is_that_of_every_threshold(items: list[tuple[int, bool]]) -> None:
    confidence = np.array([level / 5 for level, _ in items])
    right = np.array([is_right for _, is_right in items])
    result = risk_coverage(confidence, right)
    levels = sorted(set(confidence.tolist()), reverse=True)
    kept = [confidence >= level for level in levels]
    assert result.coverage == pytest.approx([each.mean() for each in kept])
    assert result.risk == pytest.approx([1 - right[each].mean() for each in kept])
    steps = zip(result.risk, result.coverage, [0, *result.coverage], strict=False)
    assert result.area == pytest.approx(sum(r * (here - before) for r, here, before in steps))
    assert result.risk[-1] == pytest.approx(1 - right.mean())
