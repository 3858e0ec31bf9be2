"""What the doctor says of encryption."""

from __future__ import annotations

import pytest
from certificates import Authority

from distbp.doctor.encryption import Encryption, check_encryption, find_encryption
from distbp.group.tls import FILES, SWITCH

ON, OFF = Encryption(True), Encryption(False)


@pytest.mark.parametrize(
    ("found", "is_private", "level", "fragment"),
    [
        ({"a": OFF}, True, "ok", "nothing of a private Ray leaves this machine"),
        ({"a": ON, "b": ON}, False, "ok", "gradients and parameters are encrypted between nodes, both ends verified"),
        ({"a": OFF, "b": OFF}, False, "warning", "gradients and parameters cross the network in the clear"),
        ({"a": ON, "b": OFF}, False, "warning", "parameters of b cross the network in the clear"),
        ({"a": ON, "b": Encryption(False, "no key")}, False, "problem", "on b: no key"),
    ],
)
def test_findings_say_what_is_encrypted(found, is_private, level, fragment):
    finding = check_encryption(found, is_private)
    assert finding.level == level
    assert fragment in finding.fact
    assert finding.exit_code == (2 if level == "problem" else 0)


def test_a_process_is_asked_what_it_does(tmp_path, monkeypatch):
    for name in (SWITCH, *FILES):
        monkeypatch.delenv(name, raising=False)
    assert find_encryption() == OFF
    for name, value in Authority(tmp_path).issue("node").items():
        monkeypatch.setenv(name, value)
    assert find_encryption() == ON
    monkeypatch.delenv(FILES[2])
    assert "RAY_TLS_CA_CERT is not set" in (find_encryption().error or "")
