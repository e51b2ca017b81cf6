"""Five minutes of broken exports and images: no exception other than InvalidInput may come out.

python tests/benchmarks/bench_intake_fuzz.py [seconds]
"""

import os
import subprocess
import sys
import time

TESTS = "tests/unit/test_intake_fuzz.py"
MANY = {"YANSHAN_FUZZ_EXAMPLES": "200"}


def main() -> None:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 300.0
    started, rounds = time.monotonic(), 0
    while time.monotonic() - started < seconds:
        command = [sys.executable, "-m", "pytest", "-q", "-x", TESTS, f"--hypothesis-seed={rounds}"]
        subprocess.run(command, check=True, env=os.environ | MANY, stdout=subprocess.DEVNULL)
        rounds += 1
    print(f"  fuzz: {rounds} rounds of 1,000 broken exports and 800 broken images, nothing but InvalidInput")


if __name__ == "__main__":
    main()
