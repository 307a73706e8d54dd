"""The table of tamperings: `tamperings` has what they do."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import msgspec

from gatelift.encoding import Digest
from gatelift.messages import EntryKind
from gatelift.terms import Sealing
from tests.integration.dossier_deployment import Deployment
from tests.support.erased import (
    forget_other,
    name_other,
    other_figure,
    other_leaf,
    say_erased,
    without_erased,
)
from tests.support.tamperings import (
    BUNDLE,
    RECORDS,
    REQUESTS,
    SIZE,
    Tampering,
    beyond_the_end,
    body_of_another_kind,
    body_with,
    certified,
    change_salt,
    earlier_end,
    edited,
    extra_leaf,
    flipped,
    key_twice,
    link_a_body,
    linked,
    manifest,
    older_cosignature,
    one_signature,
    other_bytes,
    other_root,
    relaid,
    removed,
    replaced,
    resigned_requests,
    rows,
    signature_twice,
    signed_again,
    signed_anew,
    swap_batches,
    twice_in_a_line,
    unlisted_files,
    with_body,
    with_leaves,
    without_witness,
)
from tests.support.world import HOUR, NOW, World

__all__ = ["ANY_BYTES", "LOG_KEYS", "SIGNED"]


def older_dossier(path: Path, deployment: Deployment) -> None:
    """Show what the same deployment exported at an earlier time."""
    shutil.rmtree(path)
    earlier = Deployment(path.with_name("earlier"))
    earlier.tell_shortly()
    earlier.export(path)


def renamed_node(path: Path, _: Deployment) -> None:
    (path / REQUESTS).rename(path / "requests/n2-2026-09")
    (path / RECORDS).rename(path / "records/n2-2026-09.jsonl")


ANY_BYTES = (
    Tampering("a bit of `root.json` is flipped", flipped("root.json", 60), None),
    Tampering("`root.json` is left out", removed("root.json"), "unreadable", 2),
    Tampering("the checkpoint's size is one less", replaced("releases/checkpoint", SIZE, b"\n24\n"), "missing"),
    Tampering("the checkpoint's size is 2^60", replaced(
        "releases/checkpoint", SIZE, b"\n1152921504606846976\n"
    ), "missing"),
    Tampering("the checkpoint's root is another", edited(
        "releases/checkpoint", other_root
    ), "root_mismatch"),
    Tampering("the checkpoint is of another log", flipped("releases/checkpoint", 0), "wrong_origin"),
    Tampering("the log's signature is under another name", replaced(
        "releases/checkpoint", "— test".encode(), "— tesx".encode()
    ), "unsigned"),
    Tampering("the witness's line is taken out", edited("releases/checkpoint", without_witness), "quorum_not_met"),
    Tampering("the witness's line is one for an earlier head", older_cosignature, "bad_signature"),
    Tampering("a bit of an entry is flipped", flipped(BUNDLE), "root_mismatch"),
    Tampering("a bit of a tile is flipped", flipped("releases/tile/0/000.p/25"), "tile_mismatch"),
    Tampering("a bundle is left out", removed(BUNDLE), "missing"),
    Tampering("a bundle is cut short", edited(BUNDLE, lambda d: d[:-3]), "bad_tile"),
    Tampering("a bundle has a byte more", edited(BUNDLE, lambda d: d + b"\0"), "bad_tile"),
    Tampering("an entry more stands in bundle and tile, under the old checkpoint", extra_leaf, "bad_tile"),
    Tampering("the releases log is left out", removed("releases"), "missing"),
    Tampering("a bit of a body is flipped", body_with(b"payloadType", lambda p, d: flipped(p.name, 100)(p.parent, d)), "wrong_bytes"),
    Tampering("a body's file holds the bytes of another body", other_bytes, "wrong_bytes"),
    Tampering("a bit of the plan is flipped", body_with(b"apiVersion", lambda p, d: flipped(p.name, 100)(p.parent, d)), "wrong_bytes"),
    Tampering("the candidate is left out", body_with(b"model_part"), "missing"),
    Tampering("`tlog-policy` asks for less", replaced("tlog-policy", b"group witnesses 1", b"group witnesses any"), "policy_differs"),
    Tampering("a bit of a requests checkpoint is flipped", flipped(f"{REQUESTS}/checkpoint", 50), "bad_signature"),
    Tampering("a requests checkpoint is signed by another key of the root", resigned_requests, "bad_signature"),
    Tampering("a requests log has a batch more than its checkpoint", beyond_the_end, "missing"),
    Tampering("a bit of a batch is flipped", flipped(f"{REQUESTS}/tile/entries/000", 50), "root_mismatch"),
    Tampering("a bit of a full tile is flipped", flipped(f"{REQUESTS}/tile/0/000", 5000), "tile_mismatch"),
    Tampering("a bit of a tile above is flipped", flipped(f"{REQUESTS}/tile/1/000.p/1"), "tile_mismatch"),
    Tampering("a tile is cut by a hash", edited(f"{REQUESTS}/tile/0/000", lambda d: d[:-32]), "tile_mismatch"),
    Tampering("a requests log is left out", removed(REQUESTS), "log_missing"),
    Tampering("a requests log is given to a node that no root enrols", renamed_node, "unknown_node"),
    Tampering("a requests log has a name of no month", lambda p, _: (p / REQUESTS).rename(p / "requests/n1-2026-99"), "bad_name"),
    Tampering("a record says half of its tokens", replaced(RECORDS, b'\\"output_tokens\\":20', b'\\"output_tokens\\":10'), "batch_root"),
    Tampering("a record's salt is another", rows(change_salt), "batch_root"),
    Tampering("a record is dropped", rows(lambda r: r[:3] + r[4:]), "record_missing"),
    Tampering("a finish is dropped", rows(lambda r: r[:1] + r[2:]), "record_missing"),
    Tampering("two records of a batch change places", rows(lambda r: [r[1], r[0], *r[2:]]), "record_missing"),
    Tampering("two batches' records change places", rows(swap_batches), "batch_root"),
    Tampering("a record stands twice", rows(lambda r: [*r[:-1], r[0], b""]), "record_out_of_place"),
    Tampering("an erased record says half of its tokens", rows(other_figure), "tombstones_differ"),
    Tampering("an erased record has another leaf", rows(other_leaf), "batch_root"),
    Tampering("an erased record names an erasure that is not logged", rows(name_other), "erased_without_entry"),
    Tampering("an erased record is left out", rows(without_erased), "record_missing"),
    Tampering("a record is called erased, outside of what the erasure covers", rows(say_erased), "erased_without_entry"),
    Tampering("a record is called erased, beside what the erasure covers", rows(forget_other), "tombstones_differ"),
    Tampering("the records are left out", removed(RECORDS), "record_missing"),
    Tampering("the records are cut in a line", edited(RECORDS, lambda d: d[:-9]), "line_too_long"),
    Tampering("a line of a megabyte stands among the records", edited(
        RECORDS, lambda d: b'{"log":"' + b"x" * 1_000_000 + b'"}\n' + d
    ), "line_too_long"),
    Tampering("a line is no JSON", edited(RECORDS, lambda d: b"\xff\xfe{}\n" + d), "bad_line"),
    Tampering("a line nests 100,000 deep", edited(RECORDS, lambda d: b"[" * 100_000 + b"\n" + d), "bad_line"),
    Tampering("a line has a key twice, the last of both right", rows(twice_in_a_line), "bad_line"),
    Tampering("`dossier.json` names another release", manifest(release="other"), "manifest_differs"),
    Tampering("`dossier.json` names another root", manifest(root="sha256:" + "0" * 64), "manifest_differs"),
    Tampering("`dossier.json` names a path", manifest(requests=[{"origin": "../../etc/passwd", "size": 1}]), "manifest_differs"),
    Tampering("`dossier.json` has a key twice", replaced("dossier.json", b'{"v":1', b'{"v":1,"v":1'), "unreadable", 2),
    Tampering("`dossier.json` is of another version", manifest(v=2), None, 2),
    Tampering("`dossier.json` is no JSON", edited("dossier.json", lambda _: b"{"), None, 2),
    Tampering("a file is a symbolic link", linked("tlog-policy", "/etc/hostname"), "symlink"),
    Tampering("a folder is a symbolic link", linked(REQUESTS, "/tmp"), "symlink"),
    Tampering("a body is a symbolic link", link_a_body, "symlink"),
    Tampering("a pipe lies among the files", lambda p, _: os.mkfifo(p / "files" / "pipe"), "symlink"),
    Tampering("a bundle beyond the checkpoint and a file that nothing names are added", unlisted_files, "unexpected_file", 0),
    Tampering("an earlier dossier of the same deployment is shown as the newest", older_dossier, None, 0,
        why_not="every byte of it is genuine: that more was logged since, only a newer head from a witness says"),
)  # fmt: skip
"""By somebody who holds no key."""

LOG_KEYS = (
    Tampering("an entry is dropped", with_leaves(lambda x: x[:4] + x[5:]), "wrong_after"),
    Tampering("two entries change places", with_leaves(lambda x: [*x[:1], x[2], x[1], *x[3:]]), "time_went_back"),
    Tampering("an entry stands twice", with_leaves(lambda x: [*x[:2], x[1], *x[2:]]), None),
    Tampering("the last decision is dropped", with_leaves(lambda x: x[:-1]), "group_open"),
    Tampering("the releases log is cut at an earlier end, the records are not", earlier_end, "no_certificate"),
    Tampering("a header has a key twice", with_leaves(
        lambda x: [x[0], x[1].replace(b'"end"', b'"end":true,"end"'), *x[2:]]
    ), "duplicate_key"),
    Tampering("a header has a field more", with_leaves(
        lambda x: [x[0], x[1].replace(b'"end"', b'"note":1,"end"'), *x[2:]]
    ), "bad_shape"),
    Tampering("an order is signed again by a key that no root lists", with_body(
        EntryKind.ORDER, signed_again("stranger")
    ), "unknown_signers"),
    Tampering("a grant is signed again by the operator", with_body(
        EntryKind.GRANT, signed_again("operator:olga"), actor=("operator:olga",)
    ), "role_not_allowed"),
    Tampering("an order's entry names the body of a grant", body_of_another_kind, "wrong_type"),
    Tampering("an erasure is signed again by one of the two", with_body(
        EntryKind.ERASURE, signed_again("safety:sam"), actor=("safety:sam",)
    ), "quorum_unmet"),
    Tampering("a certificate has one signature twice", with_body(
        EntryKind.CERTIFICATE, one_signature, actor=("operator:olga",)
    ), "quorum_unmet"),
    Tampering("a certificate has one signature under two keys' ids", with_body(
        EntryKind.CERTIFICATE, signature_twice
    ), "forged"),
    Tampering("a certificate is signed again by one of the two", with_body(
        EntryKind.CERTIFICATE, signed_again("safety:sam"), actor=("safety:sam",)
    ), "quorum_unmet"),
    Tampering("the witness's time is an hour ahead", lambda p, d: relaid(
        p, d, d.leaves(), time_s=d.now // 1000 + 3600
    ), "quorum_not_met"),
    Tampering("the witness's time is a year back", lambda p, d: relaid(
        p, d, d.leaves(), time_s=d.now // 1000 - 31_536_000
    ), None, 0, why_not="a cosignature has no largest age; the times are shown with what is proved"),
)  # fmt: skip
"""By somebody who holds the keys of the releases log and of its witness, and nobody else's."""

_BOTH = ("operator:olga", "safety:sam")
_OTHER = Digest("sha256:" + "0" * 64)
_LEVELS = World().certificate("researchers").levels

SIGNED = (
    Tampering("an order has a key twice in what is signed", with_body(EntryKind.ORDER, key_twice), "duplicate_key"),
    Tampering("an order gives no reason", signed_anew(
        EntryKind.ORDER, lambda v: v["predicate"].update(reasons=[]), "stop:sam"
    ), "bad_order"),
    Tampering("a stop of a stage ends by itself", signed_anew(
        EntryKind.ORDER, lambda v: v["predicate"].update(until=NOW + 1), "stop:sam"
    ), "bad_order"),
    Tampering("a grant has no key", signed_anew(
        EntryKind.GRANT, lambda v: v["predicate"].update(keys=[]), "admissions:ada"
    ), "bad_grant"),
    Tampering("a grant ends before it begins", signed_anew(
        EntryKind.GRANT, lambda v: v["predicate"].update(not_after=1), "admissions:ada"
    ), "bad_grant"),
    Tampering("a statement is about nothing", signed_anew(
        EntryKind.GRANT, lambda v: v.update(subject=[]), "admissions:ada"
    ), "bad_statement"),
    Tampering("a statement has a field more", signed_anew(
        EntryKind.GRANT, lambda v: v["predicate"].update(note="x"), "admissions:ada"
    ), None),
    Tampering("a certificate is for another candidate", certified("assess", *_BOTH, fingerprint=_OTHER), "wrong_candidate"),
    Tampering("a certificate is for another plan", certified("assess", *_BOTH, plan=_OTHER), "wrong_plan"),
    Tampering("a certificate is for a stage that the plan has not", signed_anew(
        EntryKind.CERTIFICATE, lambda v: v["predicate"].update(stage="nowhere"), *_BOTH
    ), "wrong_stage"),
    Tampering("a certificate lets status live longer", certified("assess", *_BOTH, status_ttl_ms=99_000), "wrong_status_ttl"),
    Tampering("a certificate says nothing of a threshold", certified("internal", *_BOTH, thresholds={}), "threshold_missing"),
    Tampering("a certificate lacks the overseer that its stage names", certified(
        "researchers", "safety:sam", "security:sue"
    ), "overseer_missing"),
    Tampering("a certificate is below the assurance of its stage", certified(
        "public", "safety:sam", "security:sue", "overseer:vera"
    ), "assurance_below"),
    Tampering("a certificate is below the sealing of its stage", certified(
        "researchers", "safety:sam", "security:sue", "overseer:vera",
        levels=msgspec.structs.replace(_LEVELS, sealing=Sealing.OPEN),
    ), "sealing_below"),
    Tampering("a certificate had expired when it was logged", certified(
        "assess", *_BOTH, not_before=NOW - HOUR, not_after=NOW - 1
    ), "expired"),
)  # fmt: skip
"""By somebody who, besides, got people to sign what they should not have signed."""
