"""What `up` does by itself in development: plan, placement, stage zero, one grant.

Invariants
- Stage zero only. Every later stage waits for people, evidence and reviews, also in development.
- Each step looks at the log first and does only what is missing, so a second start repeats nothing.
- It signs with the development keys in `keys/`: one person's hands for two roles, which is why such
  a deployment is `dev` and listens on loopback.

It uses the same API and the same functions as people's commands; it has no door of its own.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from gatelift.cli.candidates import measure
from gatelift.cli.certify import drafted, finish
from gatelift.cli.desk import Desk, load_keys, now_ms, sign_statement
from gatelift.cli.grants import draw_api_key, make_grant
from gatelift.cli.layout import Deployment, Settings
from gatelift.cli.seals import identities_of, pinned_of, upstream_tls_of
from gatelift.encoding import decode_json, encode_json, sha256_digest
from gatelift.messages import PlacementEnrolment, PlanAdoption
from gatelift.plan import Plan, parse_candidate, parse_plan
from gatelift.trust import Subject, split_api_key
from gatelift.wire.keyfiles import load_secret_text, save_secret_text

__all__ = ["Bootstrap"]

_PRINCIPAL, _ORGANISATION = "developer", "local"
_GRANT_MS = 30 * 24 * 3_600_000
_RENEW_BEFORE_MS = 3_600_000


class _DevGrant(NamedTuple):
    key_file: Path
    note: Path


class Bootstrap:
    """The steps, in order. Each raises the error of what it asked."""

    def __init__(self, deployment: Deployment, settings: Settings) -> None:
        self._deployment = deployment
        self._settings = settings
        self._plan: Plan = parse_plan(deployment.read("plan.yaml"))
        self.stage = self._plan.stages[0].name

    def _desk(self) -> Desk:
        return Desk(self._settings.admin_url, self._deployment.token("submitter"))

    def _keys(self, *names: str) -> list[Path]:
        return [self._deployment.key(name) for name in names]

    def adopt_plan(self) -> None:
        """Adopt the deployment's plan if none is in force."""
        desk = self._desk()
        if desk.state["plan_digest"] is not None:
            return
        data = self._deployment.read("plan.yaml")
        candidate = self._deployment.read("candidate.json")
        adoption = PlanAdoption(
            release=self._plan.name,
            plan=sha256_digest(data),
            candidate=sha256_digest(candidate),
        )
        subject = Subject(name=f"plan:{self._plan.name}", digest=adoption.plan)
        envelope = sign_statement("plan", adoption, subject, load_keys(self._keys("operator")))
        desk.send("plan", envelope, attachments=(data, candidate))

    def enrol_placement(self) -> None:
        """Measure the drift baseline and enrol the upstream, if no placement is enrolled."""
        desk = self._desk()
        if desk.state["placements"]:
            return
        candidate = parse_candidate(desk.file(desk.fingerprint))
        upstream_key = self._deployment.key("upstream")
        credential = load_secret_text(upstream_key) if upstream_key.exists() else None
        settings = self._settings
        pinned = pinned_of(settings.seal)
        baseline = measure(
            self._plan,
            candidate,
            settings.upstream,
            settings.model,
            credential,
            pinned=pinned,
            identities=identities_of(self._deployment, settings),
        )
        enrolment = PlacementEnrolment(
            name=settings.placement,
            base_url=settings.upstream,
            model=settings.model,
            fingerprint=desk.fingerprint,
            baseline=sha256_digest(baseline),
            tls=upstream_tls_of(pinned),
        )
        envelope = sign_statement(
            "placement", enrolment, desk.subject, load_keys(self._keys("operator"))
        )
        attachments = (baseline,) if pinned is None else (baseline, pinned.ca)
        desk.send("placement", envelope, attachments=attachments)

    def placement_is_up(self) -> bool:
        """Return whether a node found a placement up."""
        return any(each["probe"]["up"] for each in self._desk().state["probes"])

    def certify_stage_zero(self) -> int:
        """Certify stage zero unless it stands for an hour more; return until when it stands."""
        desk = self._desk()
        held = desk.state["stages"][0]["certificate"]
        if held is not None and held["not_after"] - now_ms() > _RENEW_BEFORE_MS:
            return int(held["not_after"])
        draft, _, _ = drafted(desk, self.stage)
        certificate = finish(draft, self._plan)
        keys = load_keys(self._keys(*self._plan.stages[0].quorum))
        envelope = sign_statement("certificate", certificate, desk.subject, keys)
        desk.send("certificate", envelope, cosigned=True)
        return certificate.not_after

    def grant_developer(self) -> str:
        """Return the API key of the developer's grant; a new one if there is none in force."""
        files = _DevGrant(
            self._deployment.path("keys", "developer-api.key"),
            self._deployment.path("run", "developer-grant.json"),
        )
        held = self._held_key(files)
        if held is not None:
            return held
        desk = self._desk()
        api_key = draw_api_key()
        grant = make_grant(
            self._plan,
            stage=self.stage,
            principal=_PRINCIPAL,
            organisation=_ORGANISATION,
            project="development",
            proofs=self._plan.stages[0].envelope.audience.requires,
            keys=(api_key.entry(),),
            lasts_ms=_GRANT_MS,
        )
        envelope = sign_statement("grant", grant, desk.subject, load_keys(self._keys("admissions")))
        files.key_file.unlink(missing_ok=True)
        save_secret_text(files.key_file, api_key.text)
        desk.send("grant", envelope)
        note: dict[str, object] = {
            "public_id": api_key.public_id,
            "until": grant.not_after,
            "root": self._deployment.read_root_digest(),
        }
        self._deployment.write("run/developer-grant.json", encode_json(note))
        return api_key.text

    def _held_key(self, files: _DevGrant) -> str | None:
        if not files.key_file.exists() or not files.note.exists():
            return None
        text = load_secret_text(files.key_file)
        note = decode_json(files.note.read_bytes(), dict[str, object])
        until = note.get("until")
        current = note.get("root") == self._deployment.read_root_digest()
        same = note.get("public_id") == split_api_key(text)
        lives = isinstance(until, int) and until - now_ms() > _RENEW_BEFORE_MS
        return text if current and same and lives else None
