"""One reader under libFuzzer, in a process of its own: `python -m tests.hostile.fuzz_one READER SECONDS`.

It never comes back: libFuzzer ends the process. What a reader should not have done is kept in
`.fuzz/findings/READER`, one input for each place that it comes from.
"""

from __future__ import annotations

import io
import re
import shutil
import sys
import tempfile
import time
import traceback
from pathlib import Path

import atheris

# coverage is that of Python; libraries in C guide by what they raise alone
INSTRUMENTED = ["worker.loading", "worker.influence.networks.graph", "zipfile", "tarfile", "PIL", "json"]
with atheris.instrument_imports(include=INSTRUMENTED):
    import zipfile

    from tests.hostile import good, readers
    from tests.worker.loading.files import npy
    from worker import reading

KEPT = Path(".fuzz")
SLOW = 10.0  # seconds of a processor that no input may take
SLOW_SEED = 0.05
MOST_MIB = 4096
MOST_BYTES = 1 << 16
# parts of a file on their own: in their files they would hide behind checksums
WITHIN = {"npy": "npz", "image": "imagefolder"}


def main(reader: str, seconds: str) -> None:
    findings = KEPT / "findings" / reader
    findings.mkdir(parents=True, exist_ok=True)

    reading.prepare()

    def once(data: bytes) -> None:
        began = time.process_time()
        folder = Path(tempfile.mkdtemp())
        try:
            _read(reader, data, folder)
        except Exception:
            _keep(findings, data, traceback.format_exc())
        finally:
            shutil.rmtree(folder)
        if (took := time.process_time() - began) > SLOW:
            _keep(findings, data, f"Slow: {took:.1f} s")

    corpus = KEPT / "corpus" / reader
    for seed in corpus.iterdir():
        began = time.process_time()
        once(seed.read_bytes())
        if time.process_time() - began > SLOW_SEED:  # what is made of it would be as slow
            seed.unlink()
    options = [
        f"-max_total_time={seconds}", f"-rss_limit_mb={MOST_MIB}", f"-max_len={MOST_BYTES}", "-timeout=300", "-report_slow_units=300",
        f"-artifact_prefix={findings}/", "-print_final_stats=1",
    ]  # fmt: skip
    atheris.Setup([sys.argv[0], *options, str(corpus)], once)
    atheris.Fuzz()


def _read(reader: str, data: bytes, folder: Path) -> None:
    path = folder / "upload"
    path.write_bytes(_wrapped(reader, data))
    name, argument = readers.request(WITHIN.get(reader, reader), path, folder, {})
    reading.CALLS[name](argument)


def _wrapped(reader: str, data: bytes) -> bytes:
    """The part in a file that is good otherwise."""
    if reader not in WITHIN:
        return data
    members = {"inputs.npy": data, "targets.npy": npy(good.Y)}
    if reader == "image":
        members = {"cat/1.png": good.PNG, "dog/1.png": data}
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name), content)
    return buffer.getvalue()


def _keep(findings: Path, data: bytes, trace: str) -> None:
    """One for each place that it comes from."""
    places = re.findall(r'File ".*?([\w.-]+)", line (\d+)', trace)
    kind = trace.strip().splitlines()[-1].split(":")[0].split("(")[0].rpartition(".")[2]
    file = findings / "-".join([re.sub(r"\W", "_", kind), *(places[-1] if places else ())])
    if not file.exists():
        file.write_bytes(data)
        file.with_name(f"{file.name}.txt").write_text(trace)


if __name__ == "__main__":
    main(*sys.argv[1:])
