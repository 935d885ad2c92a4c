"""Figures as people read them."""

from __future__ import annotations

import pytest

from orchestrator.batch import shown


@pytest.mark.parametrize(
    ("is_shown", "text"),
    [
        (shown.share(0.94697), "94.7 %"),
        (shown.share(None), "–"),
        (shown.share_interval([0.927, 0.962]), "92.7 to 96.2"),
        (shown.share_interval(None), ""),
        (shown.points(-0.124), "-12.4"),
        (shown.points(0.02), "+2.0"),
        (shown.points(None), "–"),
        (shown.points_interval([-0.01, 0.02]), "-1.0 to +2.0"),
        (shown.points_interval(None), ""),
        (shown.figure(0.0012345), "0.00123"),
        (shown.figure(2.3), "2.30"),
        (shown.figure(1234.5), "1,234"),
        (shown.figure(0), "0"),
        (shown.figure(None), "–"),
        (shown.figure(1.5, 3, "+"), "+1.50"),
        (shown.figure(1e-30), "0.0000000000"),
        (shown.usd(12.345), "12.35"),
        (shown.usd(0.01234), "0.0123"),
        (shown.usd(None), "–"),
        (shown.interval([0.5, 1.0]), "0.500 to 1.00"),
        (shown.interval(None), ""),
        (shown.chance(0.0001), "< 0.001"),
        (shown.chance(0.0456), "0.046"),
        (shown.chance(None), "–"),
        (shown.span(None), "–"),
        (shown.span(12.3), "12.3 s"),
        (shown.span(600), "10 min"),
        (shown.span(7500), "2 h 5 min"),
        (shown.moment(1_700_000_000), "2023-11-14 22:13 UTC"),
        (shown.moment(None), "–"),
    ],
)
def test_a_figure(is_shown: str, text: str) -> None:
    """With its digits and no exponent; a dash where nothing is known."""
    assert text == is_shown
