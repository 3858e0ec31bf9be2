"""`distbp attest`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer import Option

from distbp.cli.options import AsJson, Debug, Run
from distbp.cli.terminal import Terminal, open_terminal

if TYPE_CHECKING:
    from distbp.verification.receipt import Receipt

Out = Annotated[
    str | None,
    Option(metavar="FILE", show_default=False, help="Where to write it. Without: NAME.receipt.json"),
]
CheckFile = Annotated[
    str | None, Option("--check", metavar="RECEIPT", show_default=False, help="Check the run against this receipt")
]
Steps = Annotated[
    int | None,
    Option(min=1, metavar="K", show_default=False, help="With --check: how many random steps to compute again (10)"),
]
Data = Annotated[
    str | None,
    Option(metavar="DATA", show_default=False, help="With --check: where the run's data lie here"),
]
Key = Annotated[
    str | None,
    Option(
        metavar="FILE", show_default=False, help="A file with a secret to sign with (HMAC-SHA256), or to check with"
    ),
]
MIN_KEY_BYTES = 16


def attest(
    run: Run,
    out: Out = None,
    check: CheckFile = None,
    steps: Steps = None,
    data: Data = None,
    key: Key = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Write a receipt of a finished run, or check a run against one (exit code 9: it is not what it claims)."""
    with open_terminal(as_json, debug) as terminal:
        from distbp.errors import ConfigError

        secret = None if key is None else _read_key(key)
        if check is None:
            if steps is not None or data is not None:
                raise ConfigError("--steps and --data belong to --check RECEIPT; name the receipt, or leave them out")
            _write(terminal, run, out, secret)
            return
        if out is not None:
            raise ConfigError("--out writes a receipt and --check reads one; use one of them")
        _check(terminal, run, check, steps, data, secret)


def _write(terminal: Terminal, run: str, out: str | None, secret: bytes | None) -> None:
    from distbp.cli.tables import format_pairs
    from distbp.errors import StorageError
    from distbp.machine.aside import replace_file
    from distbp.verification.attest import attest as make_receipt

    receipt = make_receipt(run, secret)
    path = Path(out or f"{receipt.run}.receipt.json")
    try:
        with replace_file(path) as aside:
            aside.write_bytes(receipt.encode())
    except OSError as error:
        raise StorageError(f"cannot write '{path}': {error.strerror or error}; choose another --out") from error
    terminal.show(format_pairs({**_describe(receipt), "receipt": str(path)}))
    terminal.document({"run": run, "receipt": str(path), "digest": receipt.result.get("digest"), **_facts(receipt)})


def _check(terminal: Terminal, run: str, file: str, steps: int | None, data: str | None, secret: bytes | None) -> None:
    from distbp.cli.failures import explain
    from distbp.cli.kernels import use_kernels_of
    from distbp.cli.proof_words import describe_check, make_claim_table
    from distbp.errors import DigestsDifferError
    from distbp.run import RunDirectory
    from distbp.verification.check import NUM_STEPS, check_receipt, is_same_code
    from distbp.verification.receipt import Receipt

    use_kernels_of(RunDirectory.open(run).read_config())
    receipt = Receipt.decode(_read(file, "receipt"), file)
    found = check_receipt(run, receipt, NUM_STEPS if steps is None else steps, secret, data)
    document = {"run": run, "receipt": file, "holds": found.holds, **asdict(found), "same_code": is_same_code(receipt)}
    terminal.show(make_claim_table(found))
    if not found.holds:
        failure = explain(DigestsDifferError(describe_check(run, file, found)))
        terminal.fail(failure, document)
        raise typer.Exit(failure.exit_code)
    if not is_same_code(receipt):
        terminal.note(f"the receipt was made by other code: distbp {receipt.version}, {receipt.code[:12]}")
    terminal.show("", describe_check(run, file, found))
    terminal.document(document)


def _describe(receipt: Receipt) -> dict[str, str | None]:
    return {
        "digest": str(receipt.result.get("digest")),
        "steps": f"{receipt.steps:,}",
        "checkpoints": f"{len(receipt.checkpoints):,}, of which {len(receipt.stored):,} are kept",
        "signed": "no" if receipt.signature is None else "with the key (HMAC-SHA256)",
    }


def _facts(receipt: Receipt) -> dict[str, object]:
    return {"steps": receipt.steps, "checkpoints": dict(receipt.checkpoints), "signed": receipt.signature is not None}


def _read_key(path: str) -> bytes:
    from distbp.errors import ConfigError

    secret = _read(path, "key").strip()
    if len(secret) < MIN_KEY_BYTES:
        raise ConfigError(
            f"the key in '{path}' has {len(secret)} bytes; expected at least {MIN_KEY_BYTES}, such as "
            "`openssl rand -hex 32` writes"
        )
    return secret


def _read(path: str, what: str) -> bytes:
    from distbp.errors import ConfigError

    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ConfigError(f"cannot read the {what} '{path}': {error.strerror or error}; check the path") from None
