"""What somebody may not know does not show in a single byte that a relay sends to their home."""

from __future__ import annotations

import pytest

from tests.sim import outsiders

SEEDS = 4


@pytest.mark.parametrize("stand", outsiders.STANDS)
def test_an_outsider_is_sent_the_same_bytes_whatever_is_hidden_from_them(stand: type[outsiders.Outsider]) -> None:
    for seed in range(SEEDS):
        stand(seed).run()
