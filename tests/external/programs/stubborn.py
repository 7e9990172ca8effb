"""A program that does not end by itself, and neither do the two it starts; they say their numbers in a file.

Arguments: the file, and ``meek`` or ``deaf`` (to SIGTERM).
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

SLEEP = "import signal, time; {deaf}; time.sleep(1000)"
DEAF = "signal.signal(signal.SIGTERM, signal.SIG_IGN)"

if __name__ == "__main__":
    file, manner = Path(sys.argv[1]), sys.argv[2]
    if manner == "deaf":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    code = SLEEP.format(deaf=DEAF if manner == "deaf" else "0")
    child = subprocess.Popen([sys.executable, "-c", code])
    # a daemon, in a session of its own, whose parent is gone
    daemon = (
        "import subprocess as s, sys; "
        f"print(s.Popen([sys.executable, '-c', {code!r}], start_new_session=True, stdout=s.DEVNULL).pid)"
    )
    orphan = subprocess.run([sys.executable, "-c", daemon], stdout=subprocess.PIPE, text=True, check=True).stdout
    part = file.with_suffix(".part")
    part.write_text(f"{os.getpid()} {child.pid} {orphan}")
    part.replace(file)
    print("working", flush=True)
    time.sleep(1000)
