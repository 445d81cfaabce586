"""The network of a machine as a test has it: interfaces with addresses, and one of them on the default route.

Verified by `tests/relay/test_network.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass
class FakeNetwork:
    usual: str | None = "192.168.1.20"
    """The address on the default route."""
    addresses: dict[str, list[str]] = field(
        default_factory=lambda: {"lo": ["127.0.0.1", "::1"], "eth0": ["192.168.1.20"], "wlan0": ["10.0.0.7", "fd00::7"]}
    )

    def default(self) -> str | None:
        return self.usual

    def interfaces(self) -> Mapping[str, Sequence[str]]:
        return self.addresses
