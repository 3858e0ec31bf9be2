"""The long version: python tests/fuzz/run.py --cases 10000 --seed 0. Exit code 1 if anything was found."""

from __future__ import annotations

import argparse
import resource
import time

from fuzzing import Watch, fuzz

MEMORY_BYTES = 8 << 30  # so that a length in a file that is taken at its word shows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, default=None, help="the number of one case")
    arguments = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    began = time.monotonic()
    outcome = fuzz(arguments.cases, arguments.seed, Watch(), arguments.only)
    for finding in outcome.findings:
        print(f"\n--- case {finding.number} ({finding.target})\n{finding.text}")
    cases = ", ".join(f"{count:,} {name}" for name, count in sorted(outcome.num_cases.items()))
    print(f"{sum(outcome.num_cases.values()):,} cases in {time.monotonic() - began:.0f} s ({cases})")
    print(f"{len(outcome.findings)} findings")
    return 1 if outcome.findings else 0


if __name__ == "__main__":
    raise SystemExit(main())
