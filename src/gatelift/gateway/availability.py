"""The availability contract: what fails, what callers see, for how long, what on-call does.

Invariants
- Every way fails closed: what cannot be counted, recorded or judged is not served.
- Each row names the tests that show it, and every code it names is one of `replies.CODES`; a test of
  this table proves both.

docs/reference/availability.md is made from `ROWS` (`availability_page`).
"""

from __future__ import annotations

from typing import Final

import msgspec

__all__ = ["ROWS", "Failure"]

_P = "tests/promises/"
_I = "tests/integration/"
_HERE = f"{_P}test_availability.py::"
_DISK = f"{_P}test_p06_disk_under_fire.py::"
_WORKER = f"{_I}test_gateway_worker.py::"
_POOL = f"{_I}test_gateway_placements.py::"
_ROLL = f"{_P}test_rolling_restart.py::"


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """One row. `codes` are what callers may read; `within` is the longest until it is so."""

    what: str
    sees: str
    codes: tuple[str, ...] = ()
    within: str
    on_call: str
    tests: tuple[str, ...]


ROWS: Final[tuple[Failure, ...]] = (
    Failure(
        what="a worker is killed",
        sees="its open answers break, without `[DONE]`; other workers serve",
        within="at once; `up` starts it again after 0.5 s, doubled up to 30 s if it dies again, and it "
        "takes callers once it would serve, or after 5 s",
        on_call="nothing, if once; else read `run/worker-N.log`",
        tests=(f"{_HERE}test_a_killed_worker_breaks_its_own_answers_and_comes_back",),
    ),
    Failure(
        what="a worker is told to end (SIGTERM)",
        sees="running answers end, with `connection: close`; new connections go to other workers",
        within="10 s, then what still runs is cut; kept connections close after 1 s",
        on_call="nothing",
        tests=(
            f"{_ROLL}test_a_worker_told_to_end_ends_its_answers_and_takes_no_more",
            f"{_I}test_http_server.py::test_draining_lets_answers_end_and_cuts_what_does_not",
            f"{_I}test_http_server.py::test_a_kept_connection_has_a_moment_to_learn_that_it_ends",
        ),
    ),
    Failure(
        what="rolling restart (`gatelift restart`)",
        sees="nothing: no 5xx, no connection lost; a stream longer than 10 s is cut",
        within="a few seconds a worker, 12 s where streams run",
        on_call="if a successor does not come to serve, its predecessor goes on: read the message",
        tests=(
            f"{_ROLL}test_a_rolling_restart_under_load_has_no_5xx_and_loses_no_connection",
            f"{_ROLL}test_a_successor_that_cannot_serve_changes_nothing",
            f"{_I}test_http_server.py::test_who_waits_in_the_kernels_queue_when_draining_begins_is_served",
        ),
    ),
    Failure(
        what="a worker has too much: exchanges, records waiting, loop behind",
        sees="newcomers are shed before anything is spent; what is served stays fast",
        codes=("overloaded",),
        within="at once for exchanges and records; about 1 s for a processor that is behind",
        on_call="add workers or nodes; the beat counts how many were shed",
        tests=(
            f"{_I}test_overload.py::test_a_flood_is_shed_at_once_and_what_is_served_stays_fast",
            f"{_I}test_overload.py::test_a_disk_that_falls_behind_sheds_newcomers_until_it_has_caught_up",
            f"{_I}test_overload.py::test_a_processor_that_is_behind_sheds_newcomers_until_it_is_not",
            f"{_I}test_overload.py::test_health_and_access_answer_while_the_rest_is_shed",
        ),
    ),
    Failure(
        what="the keeper is killed or restarts",
        sees="what needs a new lease is refused, all is once status has lapsed",
        codes=("keeper_unavailable", "status_lapsed", "no_placement"),
        within="at once; back 0.5 s after it died, plus its start",
        on_call="nothing, if once; else read `run/keeper.log`",
        tests=(
            f"{_HERE}test_a_killed_keeper_is_told_as_such_and_comes_back",
            f"{_P}test_p05_never_over_a_cap.py::test_kills_of_workers_and_keeper_never_let_more_through",
        ),
    ),
    Failure(
        what="the keeper hangs",
        sees="what needs a new lease waits 2 s, then is refused; all is once status has lapsed",
        codes=("keeper_unavailable", "status_lapsed"),
        within="2 s a request; `status_ttl` for the whole",
        on_call="kill the keeper: it folds its counters again from the journals",
        tests=(f"{_HERE}test_a_keeper_that_hangs_keeps_nobody_waiting_and_closes_within_the_ttl",),
    ),
    Failure(
        what="control is dead or hangs",
        sees="served until status lapses; then nothing is, and open streams are cut",
        codes=("status_lapsed",),
        within="`status_ttl`; `up` starts a dead one again, not one that hangs",
        on_call="kill a control that hangs; orders still act by socket, file and the overseer's list",
        tests=(
            f"{_P}test_p04_a_stop_is_fast.py::test_without_control_the_gateway_closes_within_the_ttl",
            f"{_HERE}test_control_that_was_killed_and_comes_back_is_noticed_by_few",
        ),
    ),
    Failure(
        what="status lapses, for whatever reason",
        sees="nothing is served and open streams are cut; service comes back by itself",
        codes=("status_lapsed",),
        within="`status_ttl` from the last status asked for; back with the next, about 1 s",
        on_call="`gatelift doctor`: which of keeper and control is silent",
        tests=(f"{_WORKER}test_silence_of_control_closes_within_the_ttl",),
    ),
    Failure(
        what="so many beacons are silent that the root's threshold is not met",
        sees="nothing is served: their silence is meant to stop service; fewer are not noticed",
        codes=("status_lapsed",),
        within="`status_ttl`; back with the next status that enough of them sign",
        on_call="`gatelift status` says which, and why; call their organisations",
        tests=(
            f"{_P}test_p04_the_beacon.py::test_one_of_three_may_hang_and_two_stop_service",
            f"{_P}test_p04_the_beacon.py::test_beacons_told_to_be_silent_stop_service",
        ),
    ),
    Failure(
        what="the witness is away, or so many that their quorum is",
        sees="nothing for long; what is new is not certified until it cosigns again. Then nothing is served, "
        "as nobody outside vouches that the log still stands",
        codes=("status_lapsed",),
        within="`witness_max_age_ms` of the root (a day unless it says another)",
        on_call="call the witness's organisation; `gatelift status` says how far it is behind",
        tests=(
            f"{_HERE}test_nobody_notices_that_the_witness_is_away",
            f"{_I}test_control_acting.py::test_without_the_witness_nothing_new_is_proved_but_orders_act_and_statuses_go_on",
        ),
    ),
    Failure(
        what="control's store is locked by another process",
        sees="nothing while control waits; then as when control is dead",
        codes=("status_lapsed",),
        within="5 s and `status_ttl`; `up` starts control again until the lock is gone",
        on_call="end the process that holds it (`fuser store/control.sqlite`)",
        tests=(f"{_HERE}test_a_store_that_is_locked_is_waited_for_and_then_nothing_is_served",),
    ),
    Failure(
        what="control's store is gone, and control restarts",
        sees="nothing is served: another history is not taken for this one",
        codes=("status_lapsed",),
        within="`status_ttl`",
        on_call="stop control and keeper, put the store back from its newest copy; `gatelift ledger fsck` "
        "says whether it is the newest, and control refuses any other",
        tests=(f"{_HERE}test_a_store_that_is_gone_is_not_made_anew_and_nothing_is_served",),
    ),
    Failure(
        what="the node's disk is full, or writes or syncs fail",
        sees="refused; a stream whose finish cannot be written breaks without `[DONE]`",
        codes=("journal_failed", "keeper_unavailable"),
        within="at once; tried again each second, nothing acknowledged is lost",
        on_call="free or mend the disk; do not delete journals",
        tests=(
            f"{_DISK}test_a_failing_journal_refuses_loses_nothing_and_recovers_by_itself",
            f"{_DISK}test_a_disk_that_is_full_to_the_last_byte",
            f"{_P}test_p06_no_record_no_response.py::test_a_stream_whose_finish_cannot_be_written_does_not_end_well",
        ),
    ),
    Failure(
        what="the node's disk is slow",
        sees="slower: each answer waits for its start and its finish; then shed",
        codes=("overloaded", "journal_failed"),
        within="at 4,096 records waiting they are shed, at 16,384 the journal refuses",
        on_call="look for who else writes there; the first bytes show it first",
        tests=(
            f"{_DISK}test_nothing_is_released_while_the_disk_is_slow",
            f"{_I}test_overload.py::test_a_disk_that_falls_behind_sheds_newcomers_until_it_has_caught_up",
            f"{_I}test_journal_writer.py::test_more_waiting_records_than_the_bound_are_refused",
        ),
    ),
    Failure(
        what="the second store is away or hangs (durability `replicated`)",
        sees="refused: one copy is not enough",
        codes=("journal_failed", "keeper_unavailable", "not_replicated"),
        within="at once if it fails, 2 s if it hangs; tried again each second",
        on_call="mend the mount; going on with one store needs another plan, so the quorum",
        tests=(
            f"{_P}test_p06_two_stores.py::test_a_second_store_that_fails_refuses_and_recovers_by_itself",
            f"{_I}test_journal_writer.py::test_a_second_store_that_hangs_refuses_and_is_not_waited_for_for_ever",
        ),
    ),
    Failure(
        what="one model server is dead",
        sees="another placement's answer; what it was answering breaks off or is a 502",
        codes=("upstream_failed",),
        within="at once; probed back by itself",
        on_call="start it; `gatelift status` shows the probes",
        tests=(
            f"{_POOL}test_a_placement_that_is_dead_at_the_start_costs_no_caller_anything",
            f"{_POOL}test_one_that_dies_while_it_answers_is_followed_by_the_others",
        ),
    ),
    Failure(
        what="a model server hangs",
        sees="another placement's answer if it takes no connection; a 504 if it took the request",
        codes=("upstream_timeout",),
        within="`connect_s` 5 s, `first_byte_s` 120 s, `idle_s` 60 s (DIR/upstream.json)",
        on_call="restart it; lower the times where the model allows",
        tests=(
            f"{_POOL}test_one_that_hangs_on_connect_is_left_and_then_left_alone",
            f"{_POOL}test_what_was_sent_is_never_sent_again",
            f"{_POOL}test_one_that_fails_amid_a_stream_breaks_it_off_and_others_go_on",
        ),
    ),
    Failure(
        what="model servers are slow or busy",
        sees="told when to come again; nobody is hammered",
        codes=("upstream_busy",),
        within="`pool_s` 2 s; what it asks for in Retry-After, at most 30 s",
        on_call="add placements; each is enrolled with a signature",
        tests=(
            f"{_POOL}test_one_that_is_busy_rests_as_long_as_it_asks_and_is_not_hammered",
            f"{_POOL}test_a_full_pool_goes_elsewhere_and_then_says_busy",
        ),
    ),
    Failure(
        what="a model server answers 5xx",
        sees="a 502, never tried elsewhere, as its model may have worked; then it is left alone",
        codes=("upstream_failed", "no_placement"),
        within="five in a row open its breaker; tried again after 1 s, doubled up to 30 s",
        on_call="read its log",
        tests=(f"{_POOL}test_the_breaker_opens_after_failures_and_closes_again_when_they_end",),
    ),
    Failure(
        what="a model server drifted",
        sees="what it was answering is cut; others serve",
        codes=("no_placement",),
        within="the plan's `drift`: so many changed answers, one a few seconds",
        on_call="find out what changed there; it stays closed until it is enrolled anew",
        tests=(
            f"{_I}test_keeper_orders.py::test_a_changed_model_is_closed_and_stays_closed",
            f"{_POOL}test_drift_cuts_what_runs_on_that_placement_and_nothing_else",
            f"{_WORKER}test_a_placement_that_drifted_is_not_served_from",
        ),
    ),
    Failure(
        what="a model server answers strangers, or is less sealed than the certificate says",
        sees="the stage is shut and its streams are cut, but for stages of which the plan asks none",
        codes=("sealing_below",),
        within="at the next probe: each start and each minute; three that say nothing count as open",
        on_call="shut its door; `gatelift status` names the stage, the next probe opens it again",
        tests=(
            f"{_P}test_p01_an_open_door.py::test_a_door_that_opens_later_shuts_what_was_certified_behind_it",
            f"{_I}test_unsealed_upstream.py::test_an_open_door_cuts_what_runs_and_shuts_the_stage_until_it_is_closed",
        ),
    ),
    Failure(
        what="weights change under their sidecar, or it is silent for a measurement's life",
        sees="what was certified as measured is shut and its streams are cut; the rest is served",
        codes=("binding_below",),
        within="at the next probe for a change (5 s at most), `--lives` of the sidecar for silence",
        on_call="find who wrote there; a sidecar measures again only when it is started again",
        tests=(
            f"{_P}test_p01_weights_measured.py::test_a_file_that_was_swapped_ends_the_measuring_and_the_service",
            f"{_P}test_p01_weights_measured.py::test_a_replayed_or_foreign_measurement_is_refused",
        ),
    ),
    Failure(
        what="all placements are down",
        sees="refused before anything is spent; who meets the failure first reads a 502",
        codes=("no_placement", "upstream_failed"),
        within="at once",
        on_call="start one; the keeper's probes find it",
        tests=(
            f"{_POOL}test_what_was_sent_nowhere_is_recorded_so_and_spends_no_tokens",
            f"{_POOL}test_the_breaker_opens_after_failures_and_closes_again_when_they_end",
        ),
    ),
    Failure(
        what="clocks jump",
        sees="no window twice, and nothing of steps back below a minute; set back by more, keeper and "
        "workers begin anew, and caps may refuse sooner, never later. A clock that stands more than "
        "five minutes before what witnesses confirmed serves nothing until it is right",
        codes=("cap_reached", "keeper_unavailable", "status_lapsed"),
        within="at once; begun anew within seconds, plus 10 s where answers are still being given; "
        "status runs on the boot clock and is not moved by it",
        on_call="mend the time service",
        tests=(
            f"{_P}test_p05_clocks_that_jump.py::test_clocks_that_jump_open_no_window_twice",
            f"{_P}test_p05_clocks_that_jump.py::test_a_clock_behind_its_witness_serves_nothing",
        ),
    ),
    Failure(
        what="a machine or worker stood still past its status",
        sees="nothing from before is served",
        codes=("status_lapsed",),
        within="at once when it wakes",
        on_call="nothing",
        tests=(
            f"{_P}test_p05_under_fire.py::test_a_worker_that_was_stopped_past_its_time_serves_nothing_from_before",
        ),
    ),
    Failure(
        what="a certificate expires",
        sees="the last earlier stage still certified; without one nothing, and streams are cut",
        codes=("no_certificate",),
        within="at once",
        on_call="renew it; stale evidence blocks renewal, so begin before",
        tests=(
            f"{_I}test_lapsing_certificate.py::test_a_lapsed_certificate_falls_back_to_the_earlier_stage_and_to_no_more_than_it_opens",
            f"{_P}test_p01_no_certificate_no_service.py::test_an_expired_certificate_serves_no_more_and_cuts_what_is_open",
        ),
    ),
    Failure(
        what="a grant is removed",
        sees="the key is nobody's; its streams are cut",
        codes=("invalid_api_key", "stopped"),
        within="1 s",
        on_call="nothing",
        tests=(
            f"{_P}test_p04_a_stop_is_fast.py::test_a_grant_that_is_taken_back_cuts_its_streams_within_a_second",
        ),
    ),
    Failure(
        what="an order halts",
        sees="streams are cut, all else refused; official clients do not retry",
        codes=("stopped",),
        within="1 s",
        on_call="read the order; only the quorum reopens a stage",
        tests=(
            f"{_P}test_p04_a_stop_is_fast.py::test_an_order_cuts_every_open_stream_within_a_second",
        ),
    ),
    Failure(
        what="the file of a bundle or roster is missing or corrupt",
        sees="served until status lapses, as status names what the worker lacks",
        codes=("status_lapsed",),
        within="`status_ttl`; tried again each second",
        on_call="put the file back under `files/sha256`: its name is its digest",
        tests=(f"{_WORKER}test_a_bundle_that_is_missing_is_not_served_from_until_it_is_there",),
    ),
)
