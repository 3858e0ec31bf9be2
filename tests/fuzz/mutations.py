"""Ways to spoil bytes, drawn from a seeded generator."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

Mutation = Callable[[random.Random, bytes], bytes]

TOKENS = (
    b"\x00", b"\xff", b"\xff\xfe", b"\xef\xbb\xbf", b"\n", b"\r", b",", b":", b"'", b'"', b"{", b"}", b"[", b"]", b"\\",
    b"-1", b"0", b"1e400", b"-1e-400", b"nan", b"NaN", b"inf", b"-Infinity", b"null", b"true", b"None", b"~", b"1_0",
    b"9" * 25, b"9" * 5000, b"0x1F", b"1.5", b"1e3", b"\xc3\xa9", b"\xed\xa0\x80", b"%s", b"../..", b"/dev/zero",
    b"__proto__", b"&a", b"*a", b"<<: *a", b"!!python/object/apply:os.system ['touch canary']", b"!!binary aGk=",
    b"---", b"? ", b"| ", b"> ", b"{{", b"[[[[[[[[", b"PK\x03\x04", b"\x93NUMPY", b"PAR1", b"\x1f\x8b",
)  # fmt: skip


def _flip_bit(rng: random.Random, content: bytes) -> bytes:
    at = rng.randrange(len(content))
    return content[:at] + bytes([content[at] ^ 1 << rng.randrange(8)]) + content[at + 1 :]


def _set_byte(rng: random.Random, content: bytes) -> bytes:
    at = rng.randrange(len(content))
    return content[:at] + bytes([rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))]) + content[at + 1 :]


def _set_word(rng: random.Random, content: bytes) -> bytes:
    """Overwrite 4 or 8 bytes with a number that lengths and offsets do not like."""
    size = rng.choice((4, 8))
    at = rng.randrange(max(1, len(content) - size))
    value = rng.choice((0, 1, 2**31 - 1, 2**32 - 1, 2**62, rng.getrandbits(30))) % 2 ** (8 * size)
    return content[:at] + value.to_bytes(size, rng.choice(("little", "big"))) + content[at + size :]


def _truncate(rng: random.Random, content: bytes) -> bytes:
    return content[: rng.randrange(len(content))]


def _extend(rng: random.Random, content: bytes) -> bytes:
    return content + rng.choice((b"\x00", b"\n", content, rng.randbytes(9))) * rng.randint(1, 5)


def _delete_slice(rng: random.Random, content: bytes) -> bytes:
    start, stop = _slice(rng, content)
    return content[:start] + content[stop:]


def _repeat_slice(rng: random.Random, content: bytes) -> bytes:
    start, stop = _slice(rng, content)
    return content[:start] + content[start:stop] * rng.randint(2, 4) + content[stop:]


def _move_slice(rng: random.Random, content: bytes) -> bytes:
    start, stop = _slice(rng, content)
    rest = content[:start] + content[stop:]
    at = rng.randrange(len(rest) + 1)
    return rest[:at] + content[start:stop] + rest[at:]


def _zero_slice(rng: random.Random, content: bytes) -> bytes:
    start, stop = _slice(rng, content)
    return content[:start] + bytes(stop - start) + content[stop:]


def _insert_token(rng: random.Random, content: bytes) -> bytes:
    at = rng.randrange(len(content) + 1)
    return content[:at] + rng.choice(TOKENS) + content[at:]


def _replace_word(rng: random.Random, content: bytes) -> bytes:
    """Put a token in place of something between blanks, commas, colons or lines."""
    start = rng.randrange(len(content))
    start = max((content.rfind(mark, 0, start) for mark in (b" ", b",", b":", b"\n")), default=-1) + 1
    ends = [at for mark in (b" ", b",", b":", b"\n") if (at := content.find(mark, start + 1)) > 0]
    return content[:start] + rng.choice(TOKENS) + content[min(ends, default=len(content)) :]


def _empty(_rng: random.Random, _content: bytes) -> bytes:
    return b""


def _slice(rng: random.Random, content: bytes) -> tuple[int, int]:
    start = rng.randrange(len(content))
    return start, min(len(content), start + rng.randint(1, rng.choice((2, 16, 256, 4096))))


MUTATIONS: Sequence[Mutation] = (
    _flip_bit, _flip_bit, _set_byte, _set_byte, _set_word, _truncate, _truncate, _extend, _delete_slice, _repeat_slice,
    _move_slice, _zero_slice, _insert_token, _insert_token, _replace_word, _replace_word, _empty,
)  # fmt: skip


def mutate(rng: random.Random, content: bytes) -> bytes:
    """Return `content` spoilt in one to three ways."""
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        if content:
            content = rng.choice(MUTATIONS)(rng, content)
    return content
