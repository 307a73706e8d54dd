"""The journal: where a worker or keeper writes what it did, before anybody hears of it.

`journal/<worker>/<run>-<nnnn>.seg`, one writing process each. `Writer` appends records and commits
them in groups: one Merkle root, one signature, one `fdatasync`. `RunFollower` reads what was
committed, and what was not. `is_locked` tells whether the writer still lives. `overwrite` puts
tombstones where records were erased.
"""

from gatelift.journal.batches import Pending, SignedBatch
from gatelift.journal.erasing import (
    LocatedRecord,
    Patch,
    find_records,
    finish_overwrite,
    overwrite,
    patch_of,
)
from gatelift.journal.errors import JournalError
from gatelift.journal.lock import holder, is_locked, keep_still
from gatelift.journal.reader import (
    Batch,
    CommittedBatch,
    Position,
    RunFollower,
    StoredRecord,
    list_runs,
)
from gatelift.journal.segments import (
    Frame,
    FrameKind,
    Segment,
    list_segments,
    read_frames,
)
from gatelift.journal.writer import MAX_PENDING, SEGMENT_BYTES, Writer

__all__ = [
    "MAX_PENDING",
    "SEGMENT_BYTES",
    "Batch",
    "CommittedBatch",
    "Frame",
    "FrameKind",
    "JournalError",
    "LocatedRecord",
    "Patch",
    "Pending",
    "Position",
    "RunFollower",
    "Segment",
    "SignedBatch",
    "StoredRecord",
    "Writer",
    "find_records",
    "finish_overwrite",
    "holder",
    "is_locked",
    "keep_still",
    "list_runs",
    "list_segments",
    "overwrite",
    "patch_of",
    "read_frames",
]
