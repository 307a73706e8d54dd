"""Kill -9 at any moment: what was acknowledged is there, and what was written is readable."""

import random
import subprocess
import sys
import time

from gatelift.journal import RunFollower, is_locked, list_runs

WRITER = """
import asyncio, sys
from pathlib import Path
from gatelift.journal import Writer
from gatelift.messages import Beat
from gatelift.trust import SigningKey

def out(text):
    sys.stdout.write(text + "\\n")
    sys.stdout.flush()

async def main():
    run = "run_0"
    names = {"node": "node_1", "worker": "w0", "run": run}
    writer = Writer(Path(sys.argv[1]), **names, key=SigningKey(bytes(32)), segment_bytes=20_000)
    out("ready")
    async def one():
        pending = writer.append(lambda seq: Beat(v=1, **names, seq=seq, at=1, refused={}))
        out(f"written {pending.seq}")
        await pending.durable
        out(f"durable {pending.seq}")
    while True:
        await asyncio.gather(*(one() for _ in range(5)))

asyncio.run(main())
"""

KILLS = 20
AT_ONCE = 5


def numbers(lines, word):
    return {int(line.split()[1]) for line in lines if line.startswith(word) and line[-1].isdigit()}


def test_no_acknowledged_record_is_lost_and_no_written_one_unseen(tmp_path):
    chance = random.Random(4)
    acknowledged = 0
    for first in range(0, KILLS, AT_ONCE):
        directories = [tmp_path / f"w{first + i}" for i in range(AT_ONCE)]
        processes = [
            subprocess.Popen(
                [sys.executable, "-c", WRITER, str(directory)], stdout=subprocess.PIPE, text=True
            )
            for directory in directories
        ]
        for process in processes:
            assert process.stdout.readline() == "ready\n"
        assert all(is_locked(directory) for directory in directories)
        for process in processes:
            time.sleep(chance.uniform(0, 0.03))
            process.kill()
        for process, directory in zip(processes, directories, strict=True):
            lines = process.communicate()[0].split("\n")[:-1]
            assert not is_locked(directory)
            assert list_runs(directory) == ["run_0"]
            follower = RunFollower(directory, "run_0")
            committed = set()
            while found := follower.poll():
                committed |= {s.record.seq for batch in found for s in batch.records}
            readable = committed | {stored.record.seq for stored in follower.uncommitted}
            assert numbers(lines, "durable") <= committed
            assert numbers(lines, "written") <= readable
            acknowledged += len(numbers(lines, "durable"))
    assert acknowledged > 0
