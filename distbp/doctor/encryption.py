"""What of a run's traffic is encrypted, and on which nodes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from distbp.doctor.findings import Finding, block, ok, warn
from distbp.errors import ConfigError
from distbp.group.tls import SWITCH, Certificates

_REST = "not so: metrics ports, and storage unless its URL says so"


@dataclass(frozen=True)
class Encryption:
    """Of one process: whether it encrypts its lines to other nodes. error: why it could not say."""

    is_on: bool
    error: str | None = None


OFF = Encryption(False)


def find_encryption() -> Encryption:
    """Return what this process does."""
    try:
        certificates = Certificates.from_environment()
        if certificates is not None:
            certificates.check()
    except ConfigError as error:
        return Encryption(False, str(error))
    return Encryption(certificates is not None)


def check_encryption(by_address: Mapping[str, Encryption], is_private: bool) -> Finding:
    """Return what crosses the network in the clear. by_address: of every node that has answered."""
    broken = next(((address, found.error) for address, found in by_address.items() if found.error is not None), None)
    if broken is not None:
        return block("encryption", f"on {broken[0]}: {broken[1]}", "no run starts there before", ConfigError.exit_code)
    if is_private:
        return ok("encryption", "nothing of a private Ray leaves this machine")
    clear = [address for address, found in by_address.items() if not found.is_on]
    if not clear:
        return ok(
            "encryption",
            "calls of Ray, gradients and parameters are encrypted between nodes, both ends verified "
            f"({SWITCH}); {_REST}",
        )
    where = "" if len(clear) == len(by_address) else f" of {', '.join(clear[:3])}"
    return warn(
        "encryption",
        f"calls of Ray, gradients and parameters{where} cross the network in the clear",
        f"keep that network to yourself, or set {SWITCH}=1 and its certificates on every node (deploy/OPERATING.md)",
    )
