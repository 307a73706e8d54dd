"""TODO.md: what each person must do before the release serves anybody, by name."""

from __future__ import annotations

from gatelift.cli.cast import KEY_ROLES, Cast
from gatelift.cli.layout import Settings
from gatelift.encoding import Digest
from gatelift.plan import Plan

__all__ = ["render_todo"]

_DUTIES = {
    "root": "Sign the root. Keep this key offline; it is needed again only to change people.",
    "operator": "Adopt the plan, enrol the placement, sign stage zero.",
    "safety": "Commit to assessments, hand in evidence, review, sign certificates.",
    "security": "Review and sign where the plan names you.",
    "overseer": "Review and sign where the plan names you. You may stop the release alone.",
    "admissions": "Vet principals and sign their grants. Hand each API key over once.",
    "evaluator": "Run the assessments that the thresholds name, from stage zero.",
    "control": "A machine's key: it stays on this host.",
    "stop": "Keep this key where you can reach it at night. It can only narrow.",
}


def render_todo(settings: Settings, cast: Cast, plan: Plan, root: Digest) -> bytes:
    """Return the text of TODO.md."""
    lines = [
        f"# What is to be done before {settings.release} serves anybody",
        "",
        f"The root of trust is `{root}`. Give this digest to everybody below by another way than",
        "this file: who checks anything of this release starts from it.",
        "",
        "## Who",
        "",
        "| key | who | organisation | identity | what they do |",
        "|---|---|---|---|---|",
    ]
    for name, role in KEY_ROLES.items():
        who = cast.members[name]
        lines.append(
            f"| `keys/{name}.key` | {who.person} | {who.organisation} | {who.proof[:19]} | "
            f"{_DUTIES[role]} |"
        )
    lines += [
        "",
        "- [ ] Move every key of a person to that person's own machine and delete it here. While",
        "      they lie together on this host, one person can act as all of them.",
        "- [ ] `keys/control.key`, `keys/releases-log.key` and `keys/node-*.key` stay here;",
        f"      `keys/witness.key` goes to {cast.witness_organisation}, which runs the witness.",
    ]
    lines += [
        f"- [ ] {each.organisation} runs the witness {each.name}: give it `releases_vkey` of root.json."
        for each in cast.witnesses
    ]
    lines += [
        f"- [ ] {seat.organisation} runs a beacon (`gatelift beacon serve`) at {seat.url}, with "
        f"`keys/{name}.key` and `keys/overseer.token`."
        for name, seat in zip(cast.beacon_members, cast.beacons, strict=True)
    ]
    if not cast.is_proven:
        lines += [
            "- [ ] Identities read `unproven`: every certificate says assurance `dev`. Hold the",
            "      ceremony again with `--people` before any stage that asks for more.",
        ]
    lines += [
        "- [ ] Put the upstream's credential into `keys/upstream.key` (mode 0600), and make sure",
        f"      that {settings.upstream} refuses calls without it.",
        "",
        "## Steps",
        "",
        "1. `gatelift up --dir . --no-bootstrap`, then `gatelift doctor --dir .`",
        "2. operator: `gatelift plan adopt plan.yaml`, then",
        f"   `gatelift placement enrol --base-url {settings.upstream}`",
        f"3. {' and '.join(plan.stages[0].quorum)}: `gatelift certify --stage {plan.stages[0].name}`",
        "4. admissions: `gatelift grant` for the evaluators",
    ]
    number = 5
    for threshold in plan.thresholds:
        lines.append(
            f"{number}. evaluator: `gatelift commit --threshold {threshold.name}`, run "
            f"{threshold.evidence.assessment}, `gatelift evidence submit`"
        )
        number += 1
    for stage in plan.stages[1:]:
        reviewers = stage.gate.reviews.roles if stage.gate.reviews else ()
        lines.append(
            f"{number}. stage {stage.name}: reviews by {', '.join(reviewers) or 'nobody'}; "
            f"signed by {', '.join(stage.quorum)}"
        )
        number += 1
    lines += ["", "`gatelift plan preview` says at any time what is missing and who must act.", ""]
    return "\n".join(lines).encode("utf-8")
