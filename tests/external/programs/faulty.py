"""What a fake program does besides its work, as the environment variable ``FAKE_PROGRAM`` says."""

import json
import os
import signal
import sys
import time
from pathlib import Path

MODE = os.environ.get("FAKE_PROGRAM", "succeed")


def record(program: str, **facts: object) -> None:
    """Add a line about this call to the file that the test reads."""
    line = {"program": program, "arguments": sys.argv[1:], "folder": str(Path.cwd()), **facts}
    with Path(os.environ["FAKE_RECORD"]).open("a") as file:
        file.write(json.dumps(line) + "\n")


def refuse(program: str, problem: str) -> None:
    """End as a program does that was called wrongly."""
    print(f"ERROR: {program} - {problem}")
    sys.exit(1)


def before_work(program: str) -> None:
    """Fail before anything is written, if that is wanted."""
    print(f"{program} begins", flush=True)
    if MODE == "crash":
        print(f"ERROR: {program} - THE DISK OF THE STACK IS ON FIRE", file=sys.stderr)
        sys.exit(1)
    if MODE == "segfault":
        sys.stdout.flush()
        os.kill(os.getpid(), signal.SIGSEGV)
    if MODE == "hang":
        print("still hanging", flush=True)
        time.sleep(1000)
    if MODE == "no-java":
        print("ABORT: batchruntomo - etomo: java: command not found")
        sys.exit(1)
    if MODE == "nothing":
        sys.exit(0)
    if MODE == "warns":
        print("WARNING: this is only said on standard error", file=sys.stderr)


def deliver(source: Path, target: Path) -> None:
    """Put a result in its place, whole or not."""
    data = source.read_bytes()
    lines = data.splitlines(keepends=True)
    spoilt = {
        "half": data[: len(data) * 3 // 5],
        "wrong-count": b"".join(lines[:-1]),
        "garbage": b"\xff\x00\xfegarbage\x00" * 20,
        "empty": b"",
        "not-numbers": b"".join(b"*******  nan " * 3 + b"\n" for _ in lines),
    }
    target.write_bytes(spoilt.get(MODE, data))


def after_work(program: str) -> None:
    """Complain after the work, if that is wanted."""
    if MODE == "complains":
        print(f"ERROR: {program} - COULD NOT SEND THE MAIL")
        sys.exit(1)
    print(f"{program} ends", flush=True)
