"""Bugs of what is kept: Redis, limits and budgets, the ledger."""

from tests.planted.bug import bug

BUGS = (
    bug(
        "redis-without-a-time-limit",
        "BerriAI/litellm#35273, api7/aisix#1147, IBM/mcp-context-forge#3587, envoyproxy/ratelimit#987",
        "A call to Redis may take as long as it likes: one that is frozen holds up every request.",
        (
            "stores/_redis.py",
            "deadline = Deadline(timeout, connect=limits.connect, answer=limits.call, late=limits.slow)",
            "deadline = Deadline(timeout, connect=limits.connect, answer=3600.0, late=limits.slow)",
        ),
        test="tests/faults/test_redis.py::test_everybody_gets_their_own_answer_and_soon[frozen]",
        by="TimeoutError",
    ),
    bug(
        "swallowed-errors-are-successes",
        "BerriAI/litellm#35273",
        "A call to Redis that was given up counts as an answer, so the breaker never opens.",
        (
            "stores/_redis.py",
            "        if has_answered(error):\n            self._answered(seconds)\n            return",
            "        if has_answered(error) or isinstance(error, TIMEOUTS):\n            self._answered(0.0)\n            return",
        ),
        test="tests/contract/stores/test_redis_link.py::test_a_server_that_goes_and_comes_back",
        by="assert not True",
    ),
    bug(
        "a-busy-pool-is-a-dead-redis",
        "BerriAI/litellm#40672",
        "Who finds no free connection in time has Redis left alone for everybody.",
        (
            "stores/_redis.py",
            '        except TimeoutError:\n            raise StoreDown("busy") from None',
            '        except TimeoutError:\n            self._leave_alone("busy")\n            raise StoreDown("busy") from None',
        ),
        test="tests/contract/stores/test_redis_link.py::test_many_callers_are_not_an_outage",
        by="who found no place has found out nothing of the server",
    ),
    bug(
        "an-outage-is-logged-again-and-again",
        "BerriAI/litellm#40620",
        "Each look at a Redis that is away is a line in the log, not each turn.",
        (
            "stores/_redis.py",
            "            if self._fault is None and (fault == SLOW or not self._others_are_down()):",
            "            if fault == SLOW or not self._others_are_down():",
        ),
        test="tests/contract/stores/test_redis_link.py::test_a_server_that_goes_and_comes_back",
        by="that is worth no line",
    ),
    bug(
        "the-library-retries",
        "annuaire-entreprises-data-gouv-fr/search-api#755",
        "The library tries a command of Redis three times more, with all its pauses.",
        (
            "stores/_redis_client.py",
            '        "retry": Retry(NoBackoff(), 0),\n        "protocol": RESP,\n        "driver_info"',
            '        "retry": Retry(NoBackoff(), 3),\n        "protocol": RESP,\n        "driver_info"',
        ),
        test="tests/contract/stores/test_redis_link.py::test_nothing_is_tried_twice",
        by="Left contains",
    ),
    bug(
        "an-unread-reply-goes-back-into-the-pool",
        "redis-py CVE-2023-28858 (ChatGPT, 20 March 2023)",
        "A connection on which a call was cancelled is used again: the next caller is given the answer to another question.",
        (
            "stores/_redis_client.py",
            "    async def can_read(self) -> bool:",
            (
                "    async def disconnect(self, *args: Any, **named: Any) -> None:\n"
                "        if not asyncio.current_task().cancelling():\n"
                "            await super().disconnect(*args, **named)\n\n"
                "    async def can_read(self) -> bool:"
            ),
        ),
        test="tests/faults/test_cancel_storm.py::test_the_client_as_we_set_it_up",
        by="== 0",
    ),
    bug(
        "limits-times-nodes",
        "BerriAI/litellm#40291, #27736, mozilla-ai/any-llm#940, api7/aisix#47",
        "Without Redis each node lets the whole limit through.",
        (
            "stores/redis_limits.py",
            "await self._own.take([share(charge, self.nodes) for charge in charges])",
            "await self._own.take(charges)",
        ),
        test="tests/contract/limits/test_nodes.py::test_without_redis_each_node_has_its_share",
        by="assert [10, 10] == [5, 5]",
    ),
    bug(
        "places-of-a-dead-node-are-held",
        "pollinations/pollinations#13166",
        "What was held by a node that died is never free again: nobody reaps it.",
        ("stores/lua/limits.lua", '  redis.call("ZREMRANGEBYSCORE", key, "-inf", now)\n', ""),
        test="tests/contract/limits/test_nodes.py::test_places_are_shared_and_those_of_a_node_that_died_come_back",
        by="assert False",
    ),
    bug(
        "budgets-are-check-then-act",
        "QuantumNous/new-api#6609, songquanpeng/one-api#2440, BerriAI/litellm#34732, lingyuins/octopus#234",
        "A budget is looked at before the provider is asked, and charged afterwards: a crowd at once overruns it.",
        ("stores/_accounts.py", "        if amount:\n            self.hold(hold)\n", ""),
        test="tests/contract/limits/test_limit_store.py::test_a_crowd_at_once_holds_no_more_than_the_budget",
        by="assert 200 == 50",
    ),
    bug(
        "what-failed-stays-reserved",
        "BerriAI/litellm#30460",
        "What was reserved for a request that failed is counted as used: limits refuse what they need not.",
        (
            "pipeline/handle.py",
            (
                "        except (Exception, Unsent):  # a fault of ours as well: nothing came of what was reserved\n"
                "            self._book(plan, journey, NOTHING)\n"
            ),
            "        except (Exception, Unsent):  # a fault of ours as well: nothing came of what was reserved\n",
        ),
        test="tests/pipeline/test_path.py::test_a_failed_request_gives_back_what_was_reserved_for_it",
        by="assert 40 == 100",
    ),
    bug(
        "rows-are-dropped-at-a-graceful-stop",
        "BerriAI/litellm#38157, #34805",
        "What was gathered in the last moment is not written when the process ends.",
        (
            "ledger/journal.py",
            "        self._write_gathered()\n        for timer in (waiting, self._retry, self._sync):",
            "        for timer in (waiting, self._retry, self._sync):",
        ),
        test="tests/ledger/test_copier.py::test_closed_it_has_copied_everything_and_nothing_is_left",
        by="what was still being gathered is written at the end",
    ),
    bug(
        "drained-before-the-commit",
        "BerriAI/litellm#35531, #33872",
        "Rows count as copied before the database has them: those of a commit that fails are gone.",
        (
            "ledger/copier.py",
            (
                "            _keep(rows, database, self._journal.folder.parent, self._on_event)\n"
                "            self.copied += len(rows)\n"
                "            self._offsets[path] = reading.end\n"
            ),
            (
                "            self._offsets[path] = reading.end\n"
                "            _keep(rows, database, self._journal.folder.parent, self._on_event)\n"
                "            self.copied += len(rows)\n"
            ),
        ),
        test="tests/ledger/test_copier.py::test_while_the_database_is_away_segments_wait",
        by="it did not happen within",
    ),
    bug(
        "counted-again-after-a-restart",
        "BerriAI/litellm#28247",
        "What was copied before is copied again, where a copy broke off.",
        (
            "ledger/sql.py",
            "VALUES {rows} ON CONFLICT DO NOTHING",
            "VALUES {rows}",
        ),
        test="tests/ledger/test_sql.py::test_however_often_rows_are_copied_they_are_there_once",
        by="UNIQUE constraint failed",
    ),
    bug(
        "an-unbounded-clean-up",
        "BerriAI/litellm#36594",
        "Retention deletes all old rows in one transaction, which holds up whoever writes.",
        (
            "ledger/sql.py",
            "sa.select(*key).where(table.c.at < before).order_by(*key).limit(limit)",
            "sa.select(*key).where(table.c.at < before).order_by(*key)",
        ),
        test="tests/ledger/test_sql.py::test_retention_takes_what_is_old_in_small_batches_and_keeps_the_sums",
        by="assert 1200 <= 500",
    ),
    bug(
        "a-table-that-is-never-pruned",
        "BerriAI/litellm#29342, Team-Commonly/commonly#468",
        "Retention takes requests, and leaves the calls that belong to them.",
        (
            "ledger/sql.py",
            "taken = _take(connection, attempts, before, self._batch) or _take(connection, requests, before, self._batch)",
            "taken = _take(connection, requests, before, self._batch)",
        ),
        test="tests/ledger/test_sql.py::test_retention_takes_what_is_old_in_small_batches_and_keeps_the_sums",
        by="assert 700 == 1900",
    ),
)
