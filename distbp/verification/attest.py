"""attest(): from a finished run to its receipt."""

from __future__ import annotations

import hashlib
from typing import Any

from distbp.run import CheckpointStore, RunDirectory
from distbp.text.json_text import decode_object, encode_document, encode_line, wrap_non_finite
from distbp.text.masking import mask_secrets
from distbp.verification.receipt import Receipt, describe_code, hash_records, now
from distbp.verification.verify import check_digest, load_final


def attest(url: str, key: bytes | None = None) -> Receipt:
    """Return the receipt of a finished run, signed if there is a key. Everything that it names is read and hashed.

    Raises CheckpointError if it is no finished run, or if a part of it is missing, damaged or of another run.
    """
    run = RunDirectory.open(url)
    final = load_final(run)
    recipe = run.read_config().recipe
    version, code = describe_code()
    steps = run.read_steps()
    receipt = Receipt(
        run=run.name,
        made=now(),
        version=version,
        code=code,
        recipe=decode_object(mask_secrets(recipe.model_dump_json()).encode()),
        recipe_digest=recipe.digest,
        data=dict(final.data),
        numerics=run.read_numerics(),
        result=read_result(run),
        steps=len(steps),
        log=hash_records(steps),
        events=hash_records(run.read_events()),
        checkpoints=list_digests(run),
        stored=hash_stored(run),
    )
    return receipt if key is None else receipt.signed(key)


def read_result(run: RunDirectory) -> dict[str, Any]:
    """Return the run's result as JSON holds it; {} if the run has not ended."""
    return decode_object(encode_document(run.read_result() or {}))


def list_digests(run: RunDirectory) -> dict[str, str]:
    """Return the digest of the parameters by step, of all checkpoints that the run has ever completed."""
    store = CheckpointStore(run, keep=1)
    noted = {e["step"]: e["digest"] for e in run.read_events() if e["kind"] == "checkpoint"}
    stored = {step: store.load(step).digest for step in store.list_steps()}
    return {str(step): digest for step, digest in sorted({**noted, **stored}.items())}


def hash_stored(run: RunDirectory) -> dict[str, str]:
    """Return a SHA-256 of tensors, position, data and schema by step, of all checkpoints that are kept.

    Raises CheckpointError if one is damaged, or its parameters do not have the digest that is written beside them.
    """
    store = CheckpointStore(run, keep=1)
    return {str(step): _hash_checkpoint(run, store, step) for step in store.list_steps()}


def _hash_checkpoint(run: RunDirectory, store: CheckpointStore, step: int) -> str:
    checkpoint = store.load(step)
    check_digest(run, checkpoint)
    sha = hashlib.sha256()
    for name, tensor in sorted(checkpoint.tensors.items()):
        sha.update(f"{name} {tensor.dtype.str} {tensor.shape} ".encode() + tensor.tobytes())
    for values in (checkpoint.position, checkpoint.data, checkpoint.schema):
        sha.update(encode_line(wrap_non_finite(dict(values))).encode())
    return sha.hexdigest()
