"""An hour of bad link: `python -m tests.benchmarks.agent.chaos [--minutes 60] [--seed 1]`.

Two agent processes, a proxy and a server process (`tests.camera_agent.storm`): the link is cut, slow, lossy, answers
500, hangs, loses answers, resets in the middle of a body, in pieces of 2 to 40 seconds with good ones between. Exit
code 1 when a burst is lost, there twice or out of order, or the link is good again and not used after one backoff.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from tests.camera_agent.storm import Storm, weather


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    storm = Storm(
        duration_s=options.minutes * 60,
        shortest_s=2.0,
        longest_s=40.0,
        spacing_s=0.5,
        read_timeout_s=4.0,
        kill_every_s=90.0,
        seed=options.seed,
    )
    with tempfile.TemporaryDirectory() as folder:
        outcome = weather(storm, Path(folder))
    pieces = ", ".join(f"{kind} {count}" for kind, count in sorted(outcome.pieces.items()))
    sys.stdout.write(
        f"{options.minutes:g} minutes, seed {options.seed}: link {pieces}; {outcome.connections} connections\n"
        f"taken {outcome.taken}, at the server {outcome.stored} bursts, {outcome.frames} frames;"
        f" {outcome.kills} kills; {outcome.failures} sendings failed and were repeated;"
        f" {outcome.revivals} of {outcome.pieces['none']} good pieces saw the link used again\n"
    )
    sys.stdout.write("\n".join(outcome.wrong or ["nothing lost, nothing twice, all in order"]) + "\n")
    return 1 if outcome.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
