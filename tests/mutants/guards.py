"""What is taken out, and which test is to notice."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Mutant:
    """A guard: in `path`, `old` becomes `new` (everywhere it stands), and `test` fails."""

    name: str
    path: str
    old: str
    new: str
    test: str


FENCES = "tests/test_queries_fences.py"
LOST = f"{FENCES}::test_a_holder_that_lost_its_token_writes_nothing"
BAD = "tests/test_bad_input.py"
ODD_ROWS = f"{BAD}::test_no_odd_row_ends_the_worker_or_holds_up_others"
ODD_BYTES = f"{BAD}::test_bytes_that_no_provider_should_send_end_as_the_table_says"
WIRE = "tests/test_connection.py"
BELL = "tests/test_bell.py"
CLAIMER = "tests/test_claimer.py"
SKIP = "  FOR NO KEY UPDATE SKIP LOCKED\n"
PLANS = "tests/test_plans.py"
A_CLAIM = f"{PLANS}::test_a_claim_reads_what_it_takes_however_many_wait"
A_WRITE = f"{PLANS}::test_a_write_reads_its_own_rows"
FRESH = "  WHERE status = {detected} AND generation_due_at IS NULL\n"

MUTANTS = (
    Mutant(
        "no epoch in settle",
        "reactor/queries/settle.sql",
        "    AND token.generation_epoch = outcomes.epoch\n",
        "",
        LOST,
    ),
    Mutant(
        "no status and worker in settle",
        "reactor/queries/settle.sql",
        " AND held.holder = outcomes.worker",
        "",
        LOST,
    ),
    Mutant(
        "no epoch in renew",
        "reactor/queries/renew.sql",
        "    AND token.generation_epoch = claims.epoch\n",
        "",
        LOST,
    ),
    Mutant(
        "no seed in record",
        "reactor/queries/record.sql",
        "    AND token.generation_seed = bought.seed\n",
        "",
        f"{FENCES}::test_what_the_rejected_prompt_bought_is_not_recorded_over_the_new_intent",
    ),
    Mutant(
        "settle waits for a locked row",
        "reactor/queries/settle.sql",
        SKIP,
        "  FOR NO KEY UPDATE\n",
        "tests/test_settler.py::test_a_locked_row_holds_up_no_other_and_is_written_once_it_is_free",
    ),
    Mutant(
        "claim without lock",
        "reactor/queries/claim.sql",
        SKIP,
        "",
        "tests/test_queries_claim.py::test_locked_tokens_are_skipped_not_waited_for",
    ),
    Mutant(
        "claim in no order",
        "reactor/queries/claim.sql",
        "  ORDER BY {order}, {key}\n",
        "",
        "tests/test_queries_claim.py::test_due_retries_come_first_then_fresh_tokens_by_mint",
    ),
    Mutant(
        "a rescue that takes what has shown itself",
        "reactor/queries/rescue.sql",
        "    AND extract(epoch FROM token.generation_lease_ends_at)::double precision"
        " IS NOT DISTINCT FROM seen.lease_ends_at\n",
        "",
        "tests/test_queries_rescue.py::test_a_holder_that_shows_itself_after_the_look_is_not_dead",
    ),
    Mutant(
        "a free lock is enough to rescue",
        "reactor/queries/abandoned.sql",
        "          AND generation_lease_ends_at < clock_timestamp()\n"
        "            + make_interval(secs => $2::double precision - $3::double precision - 2)\n",
        "",
        "tests/test_queries_rescue.py::test_a_free_lock_alone_is_not_enough",
    ),
    Mutant(
        "no find before re-create",
        "reactor/purchase.py",
        "            self._own(await self._look())\n",
        "            pass\n",
        "tests/test_worker.py::test_a_create_that_failed_without_a_purchase_is_looked_for_once_before_the_next",
    ),
    Mutant(
        "an ambiguous create is believed at once",
        "reactor/purchase.py",
        "        self._sure_at = time.monotonic() + SURE_AFTER\n        found",
        "        self._sure_at = 0.0\n        found",
        "tests/test_worker.py::test_an_ambiguous_create_that_bought_nothing_is_believed_only_later",
    ),
    Mutant(
        "a create after the lease",
        "reactor/purchase.py",
        "        if not self._lease_runs():\n            raise LeaseOverError\n",
        "",
        "tests/test_keeper.py::test_nothing_is_bought_once_the_lease_may_be_over",
    ),
    Mutant(
        "a claim given to a task that a stop has reached",
        "reactor/attempts.py",
        "            if not given.done():  # else a stop came first",
        "            if True:",
        "tests/test_dispatcher.py::test_a_claim_that_a_stop_meets_in_flight_is_known_and_handed_back",
    ),
    Mutant(
        "an attempt that is lost before it begins",
        "reactor/keeper.py",
        "        if self.lost:\n            scope.cancel()\n",
        "",
        "tests/test_keeper.py::test_a_token_that_is_lost_before_its_attempt_begins_is_not_worked_on",
    ),
    Mutant(
        "a next claim that waits for the tokens of a full one to start",
        "reactor/dispatcher.py",
        "        if claims and len(claims) < room:\n",
        "        if claims:\n",
        "tests/test_dispatcher.py::test_where_more_wait_than_a_claim_takes_the_next_is_under_way_before_they_start",
    ),
    Mutant(
        "unshielded claim",
        "reactor/dispatcher.py",
        "anyio.CancelScope(shield=True)",
        "anyio.CancelScope()",
        "tests/test_dispatcher.py::test_a_claim_that_a_stop_meets_in_flight_is_known_and_handed_back",
    ),
    Mutant(
        "unshielded release",
        "reactor/settler.py",
        "anyio.move_on_after(ANSWER_WITHIN, shield=True)",
        "anyio.move_on_after(ANSWER_WITHIN)",
        "tests/test_worker.py::test_stopping_releases_what_the_grace_did_not_finish_and_a_restart_resumes_it",
    ),
    Mutant(
        "sweep off",
        "reactor/sweep.py",
        "                self._wake.ring()\n",
        "",
        "tests/test_worker.py::test_without_the_trigger_the_sweep_finds_it",
    ),
    Mutant(
        "no wake on reconnect",
        "reactor/listener.py",
        "        self._wake.ring()\n        if self._told_lost",
        "        if self._told_lost",
        "tests/test_listener.py::test_a_listener_whose_connection_is_terminated_comes_back_and_wakes",
    ),
    Mutant(
        "probe that cannot fail",
        "reactor/listener.py",
        "                await heard.wait()\n",
        "",
        "tests/test_listener.py::test_a_listener_that_hears_no_probe_is_not_proven_and_says_so_once",
    ),
    Mutant(
        "an answer that is not asked for",
        "reactor/listener.py",
        "answered = rung = False",
        "answered, rung = True, False",
        "tests/test_database_faults.py::test_a_listener_that_is_half_open_is_lost_and_no_poolers",
    ),
    Mutant(
        "rescue right after being cut off",
        "reactor/rescuer.py",
        "self._store.reach.steady_for < STEADY_AFTER",
        "self._store.reach.steady_for < 0",
        "tests/test_keeper.py::test_who_was_cut_off_rescues_nobody_before_others_had_time_to_renew",
    ),
    Mutant(
        "each role waits out its own backoff",
        "reactor/reach.py",
        "        back.set()\n",
        "",
        "tests/test_database_faults.py::test_the_first_to_find_the_database_back_wakes_the_others",
    ),
    Mutant(
        "loyal to a standby",
        "reactor/database.py",
        ', "25006"',
        "",
        "tests/test_database.py::test_a_server_that_became_a_standby_is_left_for_whoever_is_the_primary_now",
    ),
    Mutant(
        "a renewal that waits for its answer",
        "reactor/keeper.py",
        "anyio.fail_after(self._lease / 3)",
        "anyio.fail_after(self._lease * 3)",
        "tests/test_database_faults.py::test_a_renewal_without_an_answer_costs_no_lease",
    ),
    Mutant(
        "a failed probe that counts",
        "reactor/intake.py",
        "excuse = _after(paused) if claim.probe else 0.0",
        "excuse = None if claim.probe else 0.0",
        "tests/test_gate.py::test_a_failed_probe_doubles_the_pause_counts_nothing_and_lets_another_token_go_first",
    ),
    Mutant(
        "unsanitised error",
        "reactor/store.py",
        "redact(outcome.error)",
        "outcome.error",
        "tests/test_worker.py::test_secrets_are_stored_nowhere",
    ),
    Mutant(
        "a 404 that is believed at once",
        "reactor/providers/replicate.py",
        "if not gone or time.monotonic() - since < GONE_AFTER:",
        "if not gone:",
        f"{BAD}::test_a_prediction_that_shows_late_is_not_bought_again",
    ),
    Mutant(
        "an edge's 404 that is believed",
        "reactor/providers/replicate.py",
        " and error.answer.body is not None",
        "",
        f"{BAD}::test_a_404_that_is_not_the_apis_own_ends_nothing",
    ),
    Mutant(
        "another prediction's answer",
        "reactor/providers/replicate.py",
        "if of not in {None, told.id}:",
        "if False:",
        ODD_BYTES,
    ),
    Mutant(
        "a traceback in a reason",
        "reactor/providers/classification.py",
        "if _TRACEBACK in text:",
        "if False:",
        ODD_BYTES,
    ),
    Mutant(
        "an answer must be strict JSON",
        "reactor/providers/transport.py",
        "parsed = _parsed(content)",
        "parsed = None",
        "tests/test_transport.py::test_an_answer_is_read_whatever_the_standard_library_would_read",
    ),
    Mutant(
        "an integer as long as it likes",
        "reactor/providers/transport.py",
        "int(digits) if len(digits) < _LONGEST_INTEGER else float(digits)",
        "int(digits)",
        "tests/test_transport.py::test_an_answer_is_read_whatever_the_standard_library_would_read",
    ),
    Mutant(
        "a text is kept as it came",
        "reactor/redaction.py",
        "        text = fit(text)\n",
        "",
        "tests/test_transport.py::test_a_reason_is_fit_to_be_stored_and_logged",
    ),
    Mutant(
        "a log line of what JSON can carry",
        "reactor/logs.py",
        "return _line({name: _acceptable(value) for name, value in fields.items()})",
        "raise",
        "tests/test_logs.py::test_a_line_is_written_whatever_the_values_are",
    ),
    Mutant(
        "a date to wait for is read by our clock",
        "reactor/providers/patience.py",
        "(time.time() if math.isnan(answered_at) else answered_at)",
        "time.time()",
        "tests/test_classification.py::test_a_date_to_wait_for_is_read_by_the_providers_clock",
    ),
    Mutant(
        "tags in a reason",
        "reactor/providers/classification.py",
        '_TAG.sub(" ", text[:_MOST_READ])',
        "text[:_MOST_READ]",
        ODD_BYTES,
    ),
    Mutant(
        "a seed's time as it was written",
        "reactor/queries/claim.sql",
        "      ELSE now() - interval '2 hours'\n",
        "      ELSE generation_seeded_at\n",
        ODD_ROWS,
    ),
    Mutant(
        "a rescued seed's time as it was written",
        "reactor/queries/rescue.sql",
        "      ELSE now() - interval '2 hours'\n",
        "      ELSE generation_seeded_at\n",
        ODD_ROWS,
    ),
    Mutant(
        "attempts as they were written",
        "reactor/queries/claim.sql",
        "ELSE greatest(0, generation_attempts)",
        "ELSE generation_attempts",
        ODD_ROWS,
    ),
    Mutant(
        "a lease without an end",
        "reactor/queries/abandoned.sql",
        "coalesce(generation_lease_ends_at, 'infinity') > clock_timestamp() + interval '2 days'",
        "generation_lease_ends_at IS NULL",
        ODD_ROWS,
    ),
    Mutant(
        "a prediction id as it was written",
        "reactor/store.py",
        "recorded if PREDICTION_ID.fullmatch(recorded) else None",
        "recorded or None",
        ODD_ROWS,
    ),
    Mutant(
        "a refused row that rests the claims",
        "reactor/claimer.py",
        "if not await self._pass_over(error) and not claims:",
        "if await self._pass_over(error) or not claims:",
        f"{BAD}::test_rows_that_cannot_be_claimed_delay_no_mint",
    ),
    Mutant(
        "no rest after an empty claim",
        "reactor/dispatcher.py",
        "await anyio.sleep(AFTER_EMPTY)",
        "pass",
        f"{BAD}::test_a_flood_of_notifications_costs_a_claim_per_pause",
    ),
    Mutant(
        "a fallback that nobody checks",
        "reactor/attempt.py",
        "return validate_prompt(rules.fallback_prompt if self.claim.censored else given)",
        "return rules.fallback_prompt if self.claim.censored else validate_prompt(given)",
        f"{BAD}::test_a_fallback_without_anything_to_see_fails_its_token_with_a_reason",
    ),
    Mutant(
        "a timeout that does not say what was last seen",
        "reactor/purchase.py",
        "        self.last_seen = told\n",
        "        self.last_seen = self.last_seen\n",
        f"{BAD}::test_an_attempt_that_ran_out_of_time_says_what_was_last_seen",
    ),
    Mutant(
        "a connection that spoke unasked is asked",
        "reactor/providers/connection.py",
        "        if self._parser is None or self._whole:\n            self._again = False\n            self.close()\n",
        "        if self._parser is None or self._whole:\n",
        f"{WIRE}::test_what_is_said_unasked_is_no_answer",
    ),
    Mutant(
        "what follows an answer is left for the next request",
        "reactor/providers/connection.py",
        "        if self._whole:\n            self._again = False\n        else:\n",
        "        if not self._whole:\n",
        f"{WIRE}::test_what_follows_an_answer_is_not_the_next_one",
    ),
    Mutant(
        "an end that the loop has not read is not looked for",
        "reactor/providers/connection.py",
        " or not self._socket.select(0):",
        " or True:",
        f"{WIRE}::test_an_end_that_the_loop_has_not_read_yet_is_seen",
    ),
    Mutant(
        "what is cancelled leaves its connection open",
        "reactor/providers/connection.py",
        "        except BaseException:\n            self.close()\n            raise\n        finally:\n",
        "        finally:\n",
        f"{WIRE}::test_what_is_cancelled_takes_its_connection_with_it",
    ),
    Mutant(
        "a connection whose opening was cancelled at the last moment is waited for",
        "reactor/providers/connections.py",
        "            if made in self._open:",
        "            if False:",
        f"{WIRE}::test_a_cancellation_at_any_turn_leaves_nothing_open",
    ),
    Mutant(
        "an answer that was cut short is taken for whole",
        "reactor/providers/connection.py",
        "elif not self._head_ended or framed:",
        "elif not self._head_ended:",
        f"{WIRE}::test_an_answer_that_is_none_is_ambiguous",
    ),
    Mutant(
        "any origin gets the token",
        "reactor/providers/transport.py",
        "if _origin(request.url) != self._origin or ",
        "if ",
        f"{WIRE}::test_a_request_to_another_origin_is_not_sent",
    ),
    Mutant(
        "on watch without a look at what was quiet",
        "reactor/bell.py",
        "        if under_way < doubt.under_way:\n            self._wake.ring()\n",
        "        if under_way < doubt.under_way < inf:\n            self._wake.ring()\n",
        f"{BELL}::test_a_mint_at_the_moment_in_which_a_worker_goes_on_watch_is_claimed",
    ),
    Mutant(
        "a transaction that outlasts the quiet is forgotten",
        "reactor/bell.py",
        "        if under_way:\n            return doubt.pause\n",
        "",
        f"{BELL}::test_looks_go_on_as_long_as_a_transaction_that_had_begun",
    ),
    Mutant(
        "the last transaction that has begun is not seen",
        "reactor/queries/watch.sql",
        "pg_current_xact_id()",
        "pg_snapshot_xmax(pg_current_snapshot())",
        f"{BELL}::test_looks_go_on_as_long_as_a_transaction_that_had_begun",
    ),
    Mutant(
        "a worker that was full for a moment forgets what it has to look for",
        "reactor/bell.py",
        "self._look_again(ask) if self.watching else self._go_on_watch(ask))",
        "anyio.sleep(0) if self.watching else self._go_on_watch(ask))",
        f"{BELL}::test_looks_go_on_after_a_moment_with_no_free_slot",
    ),
    Mutant(
        "the watch is left without a word",
        "reactor/queries/leave.sql",
        "pg_notify($2::text, '')",
        "length($2::text)",
        f"{BELL}::test_who_has_no_free_slot_leaves_the_watch_to_another",
    ),
    Mutant(
        "whoever stops stays on watch",
        "reactor/worker.py",
        '        roles.bell.want("nothing")\n',
        "",
        f"{BELL}::test_who_stops_leaves_the_watch_at_once",
    ),
    Mutant(
        "nobody stands in for a worker that hangs on watch",
        "reactor/bell.py",
        "            self._sweep.look_within(jittered(STAND_IN))",
        "            pass",
        f"{BELL}::test_a_worker_that_hangs_on_watch_is_stood_in_for",
    ),
    Mutant(
        "mints are silent for a worker on watch",
        "sql/notify_inserted_v2.sql",
        "OR NOT pg_try_advisory_xact_lock_shared",
        "OR pg_try_advisory_xact_lock_shared",
        f"{BELL}::test_a_mint_is_silent_only_while_somebody_is_quiet_and_nobody_on_watch",
    ),
    Mutant(
        "every worker answers",
        "reactor/bell.py",
        "        if self._elsewhere:\n            self._sweep",
        "        if False:\n            self._sweep",
        f"{BELL}::test_of_two_workers_that_wait_one_claims_a_mint",
    ),
    # How a statement comes to cost what waits instead of what it takes.
    Mutant(
        "a status that the planner does not see",
        "reactor/queries/claim.sql",
        FRESH,
        "  WHERE status = (SELECT {detected}) AND generation_due_at IS NULL\n",
        A_CLAIM,
    ),
    Mutant(
        "retries and fresh tokens in one list",
        "reactor/queries/claim.sql",
        FRESH,
        "  WHERE status = {detected} AND (generation_due_at IS NULL OR generation_due_at <= now())\n",
        A_CLAIM,
    ),
    Mutant(
        "an order that no index has",
        "reactor/queries/claim.sql",
        "  ORDER BY {order}, {key}\n",
        "  ORDER BY created_at, {key}\n",
        A_CLAIM,
    ),
    Mutant(
        "retries compared with a clock that runs",
        "reactor/queries/claim.sql",
        "generation_due_at <= now()\n",
        "generation_due_at <= clock_timestamp()\n",
        A_CLAIM,
    ),
    Mutant(
        "a join of what was found",
        "reactor/queries/claim.sql",
        "  WHERE {key} = ANY (ARRAY(\n    SELECT key\n    FROM found\n"
        "    LIMIT CASE WHEN (SELECT guarded FROM gate) THEN coalesce((SELECT tokens FROM admitted), 0) END\n  ))\n",
        "  FROM found\n  WHERE token.{key} = found.key\n",
        A_CLAIM,
    ),
    *(
        Mutant(
            f"{name} by pairs",
            f"reactor/queries/{name}.sql",
            "CASE WHEN status = {generating} THEN generation_worker END AS holder\n"
            "  FROM {table}\n  WHERE {key} = ANY ($1::uuid[])\n",
            "generation_worker AS holder\n  FROM {table}\n  WHERE {key} = ANY ($1::uuid[]) AND status = {generating}\n",
            A_WRITE,
        )
        for name in ("renew", "record")
    ),
    Mutant(
        "rescue by pairs",
        "reactor/queries/rescue.sql",
        "    AND seen.epoch = CASE WHEN token.status = {generating} THEN token.generation_epoch END\n",
        "    AND seen.epoch = token.generation_epoch AND token.status = {generating}\n",
        A_WRITE,
    ),
    Mutant(
        "a settle that joins the table itself",
        "reactor/queries/settle.sql",
        "  FROM outcomes\n  JOIN held ON held.key = outcomes.id AND held.holder = outcomes.worker\n"
        "  WHERE token.{key} = outcomes.id\n",
        "  FROM outcomes\n  JOIN held ON held.key = outcomes.id AND held.holder = outcomes.worker\n"
        "  WHERE token.{key}::text = outcomes.id::text\n",
        A_WRITE,
    ),
    Mutant(
        "a look at every token for those that were abandoned",
        "reactor/queries/abandoned.sql",
        "WHERE status = {generating}\n",
        "WHERE status = (SELECT {generating})\n",
        f"{PLANS}::test_a_rescue_reads_what_is_held_and_no_more",
    ),
    Mutant(
        "the next due time by existence",
        "reactor/queries/next_due.sql",
        "  ORDER BY {order}, {key}\n",
        "",
        f"{PLANS}::test_the_next_due_time_costs_one_row",
    ),
    Mutant(
        "a claim that went on and found too little says that there is no more",
        "reactor/claimer.py",
        "full or after is not None",
        "full",
        f"{CLAIMER}::test_after_two_full_claims_the_next_goes_on_and_what_came_in_behind_it_is_found_at_the_end",
    ),
    Mutant(
        "no claim goes on",
        "reactor/claimer.py",
        "claims[0].last_fresh",
        "None",
        f"{CLAIMER}::test_after_two_full_claims_the_next_goes_on_and_what_came_in_behind_it_is_found_at_the_end",
    ),
    Mutant(
        "one full claim is a backlog",
        "reactor/claimer.py",
        "if full and backlog:",
        "if full:",
        f"{CLAIMER}::test_a_full_claim_by_itself_is_no_backlog",
    ),
    Mutant(
        "a backlog goes on for ever",
        "reactor/claimer.py",
        "self._after if began < self._onward_until else None",
        "self._after",
        f"{CLAIMER}::test_going_on_ends_when_it_has_taken_twenty_times_what_it_saves",
    ),
    Mutant(
        "each claim that goes on has the next go on",
        "reactor/claimer.py",
        "        else:\n            saved",
        "        if True:\n            saved",
        f"{CLAIMER}::test_going_on_ends_when_it_has_taken_twenty_times_what_it_saves",
    ),
    Mutant(
        "going on though it saves nothing",
        "reactor/claimer.py",
        " - self._onward_took",
        "",
        f"{CLAIMER}::test_going_on_ends_when_it_has_taken_twenty_times_what_it_saves",
    ),
    Mutant(
        "going on for more than a second",
        "reactor/claimer.py",
        "min(ONWARD_FOR * saved, LONGEST_ONWARD)",
        "ONWARD_FOR * saved",
        f"{CLAIMER}::test_what_came_in_behind_is_found_within_a_second",
    ),
    Mutant(
        "retries tell where to go on",
        "reactor/queries/claim.sql",
        "    FROM fresh\n    WHERE fresh.position IS NOT NULL\n    ORDER BY fresh.position DESC",
        "    FROM (SELECT id AS key, position FROM claimed) AS fresh\n    ORDER BY fresh.position DESC",
        f"{CLAIMER}::test_where_to_go_on_is_told_by_fresh_tokens_alone",
    ),
    Mutant(
        "a claim that goes on passes all that were minted at once",
        "reactor/table.py",
        "AND ({order}, {key}) > {place}",
        "AND ({order}, $6::uuid) >= {place}",
        f"{PLANS}::test_a_claim_that_goes_on_reads_nothing_of_what_is_behind_it",
    ),
    Mutant(
        "no look from the front after a claim that went on",
        "reactor/dispatcher.py",
        "return self._claimer.more",
        "return len(claims) == room",
        "tests/test_dispatcher.py::test_what_came_in_behind_a_backlog_is_claimed_at_its_end",
    ),
    Mutant(
        "trouble with a row that was locked is not told",
        "reactor/settler.py",
        "if not entry.told:",
        "if not entry.failures:",
        "tests/test_settler.py::test_trouble_with_a_row_that_was_locked_before_is_told",
    ),
    Mutant(
        "a lost token whose purchase is not named",
        "reactor/attempts.py",
        "token_id=claim.token_id, prediction_id=prediction_id",
        "token_id=claim.token_id, prediction_id=claim.prediction_id",
        "tests/test_lost_purchases.py::test_a_token_that_is_lost_after_its_purchase_is_told_with_the_prediction",
    ),
    Mutant(
        "a lifetime shorter than the API takes",
        "reactor/providers/replicate.py",
        "max(LEAST_LIFE, math.ceil(self._cancel_after))",
        "math.ceil(self._cancel_after)",
        "tests/test_provider.py::test_a_create_and_nothing_else_says_how_long_its_prediction_may_live",
    ),
    Mutant(
        "predictions that live as long as the provider likes",
        "reactor/application.py",
        "        cancel_after=settings.generation_timeout_seconds + settings.lease_seconds,\n",
        "",
        "tests/test_application.py::test_what_nobody_is_left_to_resume_ends_by_itself",
    ),
)
