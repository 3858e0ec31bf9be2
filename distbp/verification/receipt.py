"""A receipt: what a run claims to be, as one small JSON file with a hash over itself, and a signature where asked.

It holds no examples and no parameters, only hashes of them, so it may be given to anybody.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from distbp import installation
from distbp.errors import CheckpointError, DigestsDifferError
from distbp.installation import VERSION, describe_newer, describe_writer
from distbp.run.records import StepRecord
from distbp.text.json_text import check_seal, decode_object, encode_line, seal

FORMAT = 1
_SEAL = "receipt_sha256"
_SIGNATURE = "hmac_sha256"


@dataclass(frozen=True)
class Receipt:
    """What a finished run claims, and hashes by which each part is known again.

    recipe: all of it, for people; recipe_digest counts. data: the fingerprint that the checkpoints hold. numerics:
    the run's numerics.json. result: the run's result.json. steps: number of logged steps. log, events: SHA-256 of the
    records in them. checkpoints: by step, the digest of the parameters, also of checkpoints that are not kept any
    more. stored: by step, a SHA-256 of each checkpoint that is kept. code: SHA-256 of distbp's own
    files. signature: HMAC-SHA256 over all else, None without a key.
    """

    run: str
    made: str
    version: str
    code: str
    recipe: Mapping[str, Any]
    recipe_digest: str
    data: Mapping[str, Any]
    numerics: Mapping[str, Any]
    result: Mapping[str, Any]
    steps: int
    log: str
    events: str
    checkpoints: Mapping[str, str]
    stored: Mapping[str, str]
    signature: str | None = None

    def signed(self, key: bytes) -> Self:
        """Return the receipt with a signature that only who has the key can make."""
        return replace(self, signature=self._sign(key))

    def is_signed_with(self, key: bytes) -> bool:
        """Return whether the signature was made with this key over exactly this receipt."""
        return self.signature is not None and hmac.compare_digest(self.signature, self._sign(key))

    def encode(self) -> bytes:
        """Return the content of the file."""
        values = json.loads(encode_line({"receipt": FORMAT, "written_by": describe_writer(), **asdict(self)}))
        return (json.dumps({**values, _SEAL: seal(values)}, indent=1) + "\n").encode()

    @classmethod
    def decode(cls, content: bytes, origin: str) -> Self:
        """Return the receipt in a file's content. origin: names the file in messages.

        Raises DigestsDifferError if it was changed since, CheckpointError if it is none or a newer distbp wrote it.
        """
        try:
            values = decode_object(content)
        except ValueError as error:
            raise CheckpointError(f"'{origin}' is no receipt: {error}; name a file that distbp attest wrote") from None
        if values.get("receipt") != FORMAT:
            newer = describe_newer(f"'{origin}'", values.get("written_by"))
            raise CheckpointError(newer or f"'{origin}' is no receipt; name a file that distbp attest wrote")
        try:
            rest = check_seal(values, _SEAL)
            return cls(**{field.name: rest[field.name] for field in fields(cls)})
        except (ValueError, KeyError) as error:
            raise DigestsDifferError(f"the receipt '{origin}' is not as it was written: {error}") from None

    def _sign(self, key: bytes) -> str:
        unsigned = json.loads(encode_line(asdict(replace(self, signature=None))))
        return hmac.new(key, seal(unsigned).encode(), hashlib.sha256).hexdigest()


def now() -> str:
    """Return the time, ISO 8601, UTC."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def hash_records(records: Iterable[StepRecord | Mapping[str, Any]]) -> str:
    """Return a SHA-256 over records of a log, in order."""
    sha = hashlib.sha256()
    for record in records:
        sha.update(encode_line(record if isinstance(record, Mapping) else _values_of(record)).encode())
    return sha.hexdigest()


def _values_of(record: StepRecord) -> dict[str, Any]:
    """Return what of a step is hashed: its line, with replicas also where there are none, as receipts always had it."""
    return {**record.to_values(), "replicas": record.replicas}


def describe_code() -> tuple[str, str]:
    """Return the version of distbp and a SHA-256 over the Python files that it consists of here."""
    folder = Path(installation.__file__).parent
    sha = hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        sha.update(f"{path.relative_to(folder).as_posix()} {hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return VERSION, sha.hexdigest()
