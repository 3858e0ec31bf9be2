"""Lines between nodes are encrypted with the certificates that Ray is told to use, and both ends are verified."""

from __future__ import annotations

import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from multiprocessing import AuthenticationError

import numpy as np
import pytest
from certificates import DAY, Authority
from test_members import expected, problem  # noqa: F401 - fixtures

from distbp.cli.app import run as run_command
from distbp.errors import ConfigError
from distbp.group import tls
from distbp.group.links import Switchboard, call
from distbp.group.member import Member
from distbp.group.roster import Membership, Roster
from distbp.group.tls import FILES, SWITCH, Certificates
from distbp.protocol.planning import server_slices

TIMEOUT_S = 10.0
SECRET = b"only for this test"


@pytest.fixture
def authority(tmp_path) -> Authority:
    return Authority(tmp_path)


def read(variables: dict[str, str]) -> Certificates:
    found = Certificates.from_environment(variables)
    assert found is not None
    return found


def link_up(called: Certificates | None, caller: Certificates | None, secret: bytes = SECRET):
    """Return both ends of a line, or raise what the caller gets."""
    board = Switchboard("127.0.0.1", SECRET, called)
    (address,) = (board.addresses[kind] for kind in ("tcp", "tls") if kind in board.addresses)
    with ThreadPoolExecutor(1) as pool:
        accepted = pool.submit(board.accept, "tcp", TIMEOUT_S)
        try:
            link = call(address, secret, TIMEOUT_S, caller)
            link.send("hello")
            return link, accepted.result(timeout=TIMEOUT_S)
        finally:
            board.cut()
            pool.shutdown()
            board.close()


def test_arrays_cross_in_both_directions_at_once(authority):
    certificates = read(authority.issue("node"))
    a, b = link_up(certificates, certificates)
    assert b.receive() == "hello"
    rng = np.random.default_rng(0)
    sent = rng.standard_normal(3_000_000).astype(np.float32)
    got = {name: np.empty_like(sent) for name in "ab"}
    threads = [
        threading.Thread(target=target, args=(array,))
        for target, array in (
            (a.send_array, sent),
            (b.receive_into, got["b"]),
            (b.send_array, -sent),
            (a.receive_into, got["a"]),
        )
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert np.array_equal(got["b"], sent)
    assert np.array_equal(got["a"], -sent)
    a.close()
    with pytest.raises((EOFError, OSError)):
        b.receive()
    b.close()


def test_a_line_that_is_cut_ends_whoever_waits_on_it(authority):
    certificates = read(authority.issue("node"))
    a, b = link_up(certificates, certificates)
    b.receive()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(b.receive)
        b.cut()
        with pytest.raises((EOFError, OSError)):
            waiting.result(timeout=TIMEOUT_S)
    a.close()
    b.close()


class Wire:
    """Passes bytes on between a caller and an address, and remembers them."""

    def __init__(self, address):
        self._server = socket.create_server(("127.0.0.1", 0))
        self.address = self._server.getsockname()
        self._target = address
        self.seen = bytearray()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self):
        with self._server.accept()[0] as caller, socket.create_connection(self._target) as called:
            back = threading.Thread(target=self._pass_on, args=(called, caller))
            back.start()
            self._pass_on(caller, called)
            called.shutdown(socket.SHUT_WR)
            back.join()

    def _pass_on(self, source, target):
        with suppress(OSError):
            while data := source.recv(1 << 16):
                self.seen += data
                target.sendall(data)

    def close(self):
        self._server.close()
        self._thread.join(timeout=TIMEOUT_S)


@pytest.mark.parametrize("is_encrypted", [True, False])
def test_nothing_of_a_message_is_seen_on_the_wire(authority, is_encrypted):
    certificates = read(authority.issue("node")) if is_encrypted else None
    board = Switchboard("127.0.0.1", SECRET, certificates)
    wire = Wire(next(board.addresses[kind] for kind in ("tls", "tcp") if kind in board.addresses))
    with ThreadPoolExecutor(1) as pool:
        accepted = pool.submit(board.accept, "tcp", TIMEOUT_S)
        link = call(wire.address, SECRET, TIMEOUT_S, certificates)
        link.send("a word that nobody else may read")
        answered = accepted.result(timeout=TIMEOUT_S)
        assert answered.receive() == "a word that nobody else may read"
    assert (b"a word that nobody" in wire.seen) == (not is_encrypted)
    for part in (link, answered, board, wire):
        part.close()


def test_a_certificate_of_another_authority_is_refused_by_both_ends(authority, tmp_path):
    own, strange = authority.issue("node"), Authority(tmp_path / "strange").issue("node")
    mixed = {**strange, "RAY_TLS_CA_CERT": own["RAY_TLS_CA_CERT"]}  # trusts ours and shows a strange one
    for called, caller in ((own, mixed), (mixed, own)):
        with pytest.raises((OSError, EOFError, TimeoutError)):
            link_up(read(called), read(caller))


def test_an_expired_certificate_is_refused_and_a_renewed_one_counts_at_once(authority):
    certificates = read(authority.issue("node", -DAY))
    with pytest.raises((OSError, EOFError)):
        link_up(certificates, certificates)
    authority.issue("node")  # the same paths
    for end in link_up(certificates, certificates):
        end.close()


def test_a_renewal_under_way_is_waited_for(authority, tmp_path):
    certificates = read(authority.issue("node"))
    key = tmp_path / "node.key"
    good = key.read_bytes()
    authority.issue("other")
    key.write_bytes((tmp_path / "other.key").read_bytes())  # the key of another certificate
    timer = threading.Timer(0.5, key.write_bytes, (good,))
    timer.start()
    certificates.check()
    timer.join()


def test_certificates_that_do_not_fit_are_a_sentence(authority, tmp_path, monkeypatch):
    monkeypatch.setattr(tls, "RENEWAL_S", 0.1)
    certificates = read(authority.issue("node"))
    (tmp_path / "node.key").write_text("no key")
    with pytest.raises(ConfigError, match=r"the certificates cannot be used: .*RAY_TLS_SERVER_KEY="):
        certificates.check()
    (tmp_path / "node.pem").write_text("no certificate")
    with pytest.raises(ConfigError, match="the certificates cannot be used"):
        certificates.check()


def test_who_knows_the_certificates_but_not_the_secret_is_turned_away(authority):
    certificates = read(authority.issue("node"))
    with pytest.raises((AuthenticationError, OSError, EOFError)):
        link_up(certificates, certificates, b"another secret")


def test_somebody_in_between_with_a_good_certificate_cannot_pass_the_proof_on(authority):
    """He decrypts and encrypts again, and knows no secret: what the ends prove is bound to what they were shown."""
    own, between = read(authority.issue("node")), read(authority.issue("between"))
    board = Switchboard("127.0.0.1", SECRET, own)
    middle = socket.create_server(("127.0.0.1", 0))

    def pass_on(source, target):
        buffer = memoryview(bytearray(1 << 16))
        with suppress(OSError):
            while count := source.recv_into(buffer):
                target.sendall(buffer[:count])
        with suppress(OSError):
            target.shutdown(socket.SHUT_RDWR)

    def relay() -> None:
        with middle.accept()[0] as caller, socket.create_connection(board.addresses["tls"]) as called:
            to_caller = between.encrypt(caller, False, TIMEOUT_S)
            to_called = between.encrypt(called, True, TIMEOUT_S)
            back = threading.Thread(target=pass_on, args=(to_called, to_caller))
            back.start()
            pass_on(to_caller, to_called)
            back.join()

    relaying = threading.Thread(target=relay, daemon=True)
    relaying.start()
    with ThreadPoolExecutor(1) as pool:
        accepted = pool.submit(board.accept, "tcp", TIMEOUT_S)
        with pytest.raises((AuthenticationError, OSError, EOFError)):
            call(middle.getsockname(), SECRET, TIMEOUT_S, own)
        board.cut()
        assert isinstance(accepted.exception(timeout=TIMEOUT_S), OSError)
    relaying.join(timeout=TIMEOUT_S)
    board.close()
    middle.close()


@pytest.mark.parametrize(
    ("variables", "fragment"),
    [
        ({SWITCH: "1"}, f"{' and '.join(FILES)} are not set; nothing is sent in the clear instead"),
        ({SWITCH: "true", FILES[0]: "a", FILES[1]: "b"}, "RAY_TLS_CA_CERT is not set"),
        ({FILES[0]: "a"}, f"{FILES[0]} is set and {SWITCH} is not; set {SWITCH}=1 on every node to encrypt"),
        ({SWITCH: "1", **dict.fromkeys(FILES, "/nowhere/x.pem")}, "/nowhere/x.pem cannot be read: No such file"),
    ],
)
def test_half_an_encryption_is_refused_with_what_to_do(variables, fragment):
    with pytest.raises(ConfigError) as caught:
        Certificates.from_environment(variables)
    assert fragment in str(caught.value)


def test_no_encryption_is_asked_for_by_nothing_or_zero():
    assert Certificates.from_environment({}) is None
    assert Certificates.from_environment({SWITCH: "0", FILES[0]: "a"}) is None


def test_a_run_with_half_an_encryption_does_not_start(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv(SWITCH, "1")
    assert run_command(["train", "--backend", "ray", "--storage", str(tmp_path), "--name", "run"]) == 2
    assert "nothing is sent in the clear instead" in " ".join(capsys.readouterr().err.split())


def make_members(problem, certificates):  # noqa: F811
    worker, server, state, _ = problem
    boards = [Switchboard("127.0.0.1", SECRET, one) for one in certificates]
    who = tuple(Membership(f"node-{i}", f"n{i}", i, "", addresses=b.addresses) for i, b in enumerate(boards))
    roster = Roster(who, server_slices(len(state.parameters), 2), SECRET, TIMEOUT_S)
    return [Member(rank, roster, worker, server, state) for rank in range(len(boards))], boards


def test_encrypted_members_compute_the_same_bytes(problem, expected, authority):  # noqa: F811
    certificates = [read(authority.issue(f"node-{i}")) for i in range(3)]
    members, boards = make_members(problem, certificates)
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda member, board: member.connect(board, problem[2]), members, boards))
        reports = [found for found, _ in pool.map(lambda member: member.run(problem[3]), members)]
    for member in members:
        member.close()
    checksums = [f"{sum(int(r.checksum, 16) for r in step) % 2**64:016x}" for step in zip(*reports[:2], strict=True)]
    assert checksums == expected[0]


def test_members_that_do_not_agree_whether_to_encrypt_are_told_so(problem, authority):  # noqa: F811
    members, boards = make_members(problem, [read(authority.issue("node")), None])
    with ThreadPoolExecutor(2) as pool:
        waiting = pool.submit(members[0].connect, boards[0], problem[2])
        with pytest.raises(ConfigError, match="do not agree whether lines are encrypted"):
            members[1].connect(boards[1], problem[2])
        boards[0].cut()
        members[0].cut()
        assert waiting.exception(timeout=TIMEOUT_S) is not None
    for member in members:
        member.close()
