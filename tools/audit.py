"""Holds what is pinned against known vulnerabilities, by pip-audit.

    make audit                fails as well where the service cannot tell
    tools/audit.py --lenient  as `make lint` runs it: says that it was skipped, and passes

A vulnerability that does not concern us is named in `PASSED`, with the reason.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PINS = ("requirements/torch.txt", "requirements/lock.txt")  # the short one first: whether there is an answer
SECONDS = 300
PASSED: dict[str, str] = {}  # {id: why}


def main() -> int:
    lenient = "--lenient" in sys.argv[1:]
    packages: list[dict[str, Any]] = []
    for file in PINS:
        try:
            packages += audited(file)
        except (subprocess.TimeoutExpired, ValueError) as failed:
            return unknown(str(failed).strip().splitlines()[-1], lenient)
        known = [one for one in packages if "skip_reason" not in one]
        if not known:
            return unknown(packages[0]["skip_reason"], lenient)
    found = {
        f"{one['name']} {one['version']}: {each['id']}, mended in {', '.join(each['fix_versions']) or 'none'}"
        for one in known
        for each in one["vulns"]
        if each["id"] not in PASSED
    }
    print(
        *sorted(found),
        f"audit: {len(known)} of {len(packages)} packages looked up, {len(found)} vulnerable",
        sep="\n",
    )
    return 1 if found else 0


def audited(file: str) -> list[dict[str, Any]]:
    """What pip-audit says of each package. Raises ValueError, with its words, where it says nothing."""
    command = [
        str(Path(sys.executable).with_name("pip-audit")),
        "--no-deps",
        "--disable-pip",
        "--format",
        "json",
    ]
    command += ["--progress-spinner", "off", "--requirement", str(ROOT / file)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
    try:
        packages: list[dict[str, Any]] = json.loads(ran.stdout)["dependencies"]
    except ValueError:
        raise ValueError(ran.stderr or "no answer") from None
    return packages


def unknown(why: str, lenient: bool) -> int:
    print(f"audit: skipped, the service of vulnerabilities cannot be asked ({why})")
    return 0 if lenient else 1


if __name__ == "__main__":
    sys.exit(main())
