"""`sentinel ledger reconcile`: the ledger held against what providers say."""

import json

import pytest
from msgspec.structs import replace

from sentinel_gateway.ledger.books import make_database
from sentinel_gateway.ledger.tables import DAY
from tests.cli.conftest import DATE, MIDNIGHT
from tests.ledger.rows import SECOND, spent


def usage(day: str, **columns) -> str:
    row = {"date": day, "model": "mock-small"} | columns
    return ",".join(row) + "\n" + ",".join(map(str, row.values())) + "\n"


@pytest.fixture
def reconciled(ledger, tmp_path):
    def run(content, *args):
        (tmp_path / "usage").write_text(content)
        result = ledger("reconcile", str(tmp_path / "usage"), *args, "--json")
        return result.exit_code, json.loads(result.stdout)

    return run


def test_the_same_on_both_sides(reconciled):
    code, told = reconciled(usage(str(DATE), requests=1, input_tokens=12, output_tokens=5, cost_usd="2.000000001"))
    assert (code, told["ok"]) == (0, True)
    (one,) = told["data"]
    assert one["drift"] == {"requests": 0.0, "prompt_tokens": 0.0, "completion_tokens": 0.0, "cost": 0.0}
    assert one["ledger_says"]["cost_usd"] == one["provider_says"]["cost_usd"] == "2.000000001"
    (one,) = reconciled(usage(str(DATE), cost_usd="0.000000001"))[1]["data"]
    assert one["provider_says"]["cost_usd"] == "0.000000001"


def test_a_drift_is_told_and_is_the_exit_code(reconciled):
    code, told = reconciled(usage(str(DATE), requests=1, input_tokens=10, cost=2))
    assert (code, told["ok"]) == (1, False)
    drift = told["data"][0]["drift"]
    assert (drift["prompt_tokens"], drift["completion_tokens"]) == (0.2, None)
    assert drift["cost"] == pytest.approx(5e-10)
    assert reconciled(usage(str(DATE), requests=1, input_tokens=10, cost=2), "--tolerance", "0.2")[0] == 0


def test_a_file_that_is_not_there(ledger, tmp_path):
    result = ledger("reconcile", str(tmp_path / "usage"))
    assert (result.exit_code, result.stderr) == (2, f"sentinel: {tmp_path}/usage can't be opened: No such file or directory\n")


def test_a_day_that_only_one_side_knows(reconciled):
    content = usage(str(DATE), requests=1) + f"{DATE.replace(day=DATE.day - 1)},mock-small,1\n" + "2020-01-01,mock-small,4\n"
    code, told = reconciled(content)
    assert code == 1
    (worst,) = [one for one in told["data"] if one["drift"]["requests"]]
    assert (worst["day"], worst["ledger_says"]["requests"], worst["drift"]["requests"]) == ("2020-01-01", 0, -1.0)


@pytest.mark.parametrize(
    "content",
    [
        json.dumps({"data": [{"start_time": MIDNIGHT // SECOND, "results": [{"model": "mock-small", "num_model_requests": 1}]}]}),
        json.dumps([{"timestamp": MIDNIGHT // 1000, "model": "mock/mock-small", "requests": "1"}]),
        f'{{"day": "{DATE}", "model": "mock-small-2026-05-01", "requests": 1}}\n',
        f'{{"starting_at": "{DATE}T23:00:00Z", "model": "mock-small", "requests": 1}}\n' * 1,
    ],
)
def test_the_shapes_that_providers_give(reconciled, content):
    assert reconciled(content)[0] == 0


ANTHROPIC_USAGE = {
    "starting_at": f"{DATE}T00:00:00Z",
    "ending_at": f"{DATE}T23:59:59Z",
    "results": [
        {
            "uncached_input_tokens": 5,
            "cache_creation": {"ephemeral_1h_input_tokens": 1, "ephemeral_5m_input_tokens": 2},
            "cache_read_input_tokens": 4,
            "output_tokens": 5,
            "server_tool_use": {"web_search_requests": 0},
            "model": "mock-small",
        }
    ],
}
ANTHROPIC_COSTS = {
    "starting_at": f"{DATE}T00:00:00Z",
    "results": [
        {"currency": "USD", "amount": "150.0000001", "cost_type": "tokens", "model": "mock-small", "token_type": "output_tokens"},
        {"currency": "USD", "amount": "50", "cost_type": "tokens", "model": "mock-small", "token_type": "uncached_input_tokens"},
    ],
}
OPENAI_COSTS = {
    "start_time": MIDNIGHT // SECOND,
    "results": [
        {"amount": {"value": 1.500000001, "currency": "usd"}, "line_item": "mock-small-2026-05-01, input"},
        {"amount": {"value": 0.5, "currency": "usd"}, "line_item": "mock-small-2026-05-01, output"},
    ],
}
TOKENS = {"prompt_tokens": 12, "completion_tokens": 5}
COST = {"cost_usd": "2.000000001"}


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (json.dumps({"data": [ANTHROPIC_USAGE], "has_more": False}), TOKENS),
        (json.dumps({"data": [ANTHROPIC_COSTS], "has_more": False}), COST),
        (json.dumps({"object": "page", "data": [OPENAI_COSTS]}), COST),
        (
            (
                "usage_date_utc,model_version,api_key,usage_input_tokens_no_cache,usage_input_tokens_cache_write_5m,"
                f"usage_input_tokens_cache_write_1h,usage_input_tokens_cache_read,usage_output_tokens\n{DATE},mock-small,a,5,2,1,4,5\n"
            ),
            TOKENS,
        ),
        (
            f"usage_date_utc,model,token_type,cost_usd,list_price_usd,cost_type\n{DATE},Mock Small,output,2.000000001,3,token\n",
            COST,
        ),
        (
            (
                "start_time,end_time,start_time_iso,num_model_requests,model,input_tokens,output_tokens,input_cached_tokens\n"
                f"{MIDNIGHT // SECOND - 86400},{MIDNIGHT // SECOND},,,,,,\n"
                f"{MIDNIGHT // SECOND},{MIDNIGHT // SECOND + 86400},,1.0,mock-small-2026-05-01,12,5,3\n"
            ),
            TOKENS | {"requests": 1},
        ),
        (
            f"Date,Slug,Usage,BYOK Usage,Requests,Prompt Tokens,Completion Tokens\n{DATE},mock/mock-small,2.000000001,0,1,12,5\n",
            TOKENS | COST | {"requests": 1},
        ),
        (
            (
                "user_id,utc_date,model,api_key_name,type,price,amount\n"
                f"1,{DATE},mock-small,a,input_cache_hit_tokens,0.000000028,4\n"
                f"1,{DATE},mock-small,a,input_cache_miss_tokens,0.00000028,8\n"
                f"1,{DATE},mock-small,a,output_tokens,0.00000042,5\n"
                f"1,{DATE},mock-small,a,request_count,,1\n"
            ),
            TOKENS | {"requests": 1},
        ),
    ],
    ids=[
        "anthropic",
        "anthropic-costs",
        "openai-costs",
        "anthropic-csv",
        "anthropic-costs-csv",
        "openai-csv",
        "openrouter",
        "deepseek",
    ],
)
def test_what_each_provider_calls_what_it_has_counted(reconciled, content, says):
    """Whole files in the shape of theirs: what such a file says is compared, and nothing else."""
    code, told = reconciled(content)
    (one,) = told["data"]
    assert {name: said for name, said in one["provider_says"].items() if said is not None} == says
    assert (code, one["model"]) == (0, "mock-small")


def test_what_is_billed_beside_the_models_is_not_in_the_ledger(reconciled):
    searches = {"currency": "USD", "amount": "1000", "cost_type": "web_search", "model": None}
    costs = ANTHROPIC_COSTS | {"results": [*ANTHROPIC_COSTS["results"], searches]}
    code, told = reconciled(json.dumps({"data": [costs]}))
    assert code == 1
    found = {one["model"]: (one["provider_says"]["cost_usd"], one["ledger_says"]["cost_usd"]) for one in told["data"]}
    assert found == {"(no model)": ("10", "0"), "mock-small": ("2.000000001", "2.000000001")}


@pytest.mark.parametrize(
    ("theirs", "ours", "same"),
    [
        ("claude-haiku-4-5-20251001", "claude-haiku-4-5", True),
        ("Claude Haiku 4.5", "claude-haiku-4-5-20251001", True),
        ("gpt-4o-2024-08-06", "gpt-4o-2024-05-13", False),
        ("gpt-4o-mini", "gpt-4o", False),
    ],
)
def test_a_model_is_known_however_it_is_written(data, reconciled, theirs, ours, same):
    database = make_database(data, None)
    served = spent(3, at=MIDNIGHT)
    database.copy([replace(served, intent=replace(served.intent, target=ours))])
    database.close()
    _, told = reconciled(usage(str(DATE), requests=1).replace("mock-small", theirs), "--provider", "mock")
    assert (ours in {one["model"] for one in told["data"] if one["provider_says"]["requests"]}) is same


def test_rows_that_are_kept_by_day_only_count_as_well(data, reconciled):
    database = make_database(data, None)
    while database.prune(MIDNIGHT + DAY):
        pass
    database.close()
    assert reconciled(usage(str(DATE), requests=1, input_tokens=12, output_tokens=5, cost_usd="2.000000001"))[0] == 0


def test_with_a_provider_its_other_models_are_compared_too(reconciled):
    content = usage(str(DATE), requests=0).replace("mock-small", "mock-large")
    assert len(reconciled(content)[1]["data"]) == 1
    code, told = reconciled(content, "--provider", "mock")
    assert code == 1
    assert {one["model"] for one in told["data"]} == {"mock-small", "mock-large"}


@pytest.mark.parametrize(
    ("content", "word"),
    [
        ("", "no usage"),
        (f"date,model,requests\n{DATE},,\n", "no usage"),
        ("a,b\n1,2\n", "no column with a day"),
        (f"date,requests\n{DATE},1\n", "no column with a model"),
        ("date,model,requests\nsoon,mock-small,1\n", "'soon'"),
        (f"date,model,cost,currency\n{DATE},mock-small,1,CNY\n", "a cost in 'CNY'"),
        (f"date,model,requests\n{DATE},mock-small,many\n", "'many'"),
        ("{", "is none"),
        ("[" * 100_000, "is none"),
        (f"date,model,requests\n{DATE},mock-small,1e400000\n", "'1e400000'"),
        (f"date,model,cost_usd\n{DATE},mock-small,1e999999999\n", "'1e999999999'"),
        (f"date,model,requests\n{DATE},mock-small,{'1' * 100_000}\n", f"'{'1' * 60}...'"),
        (f"date,model,requests\n{DATE},mock-small,{'1' * 200_000}\n", "can't be read as CSV"),
    ],
)
def test_a_file_that_can_not_be_used(ledger, tmp_path, content, word):
    (tmp_path / "usage").write_text(content)
    result = ledger("reconcile", str(tmp_path / "usage"))
    assert (result.exit_code, result.stdout) == (2, "")
    assert word in result.stderr
    assert len(result.stderr) < 1000


def test_lines_may_end_as_on_old_macs(reconciled):
    assert reconciled(usage(str(DATE), requests=1).replace("\n", "\r"))[0] == 0


@pytest.mark.parametrize("share", ["nan", "-0.1", "much"])
def test_a_tolerance_that_is_none(ledger, tmp_path, share):
    (tmp_path / "usage").write_text(usage(str(DATE), requests=1))
    result = ledger("reconcile", str(tmp_path / "usage"), "--tolerance", share)
    assert (result.exit_code, result.stdout) == (2, "")
    assert f"'{share}' is no share" in result.stderr


def test_for_people(ledger, tmp_path):
    (tmp_path / "usage").write_text(usage(str(DATE), requests=2, input_tokens=12))
    result = ledger("reconcile", str(tmp_path / "usage"))
    assert result.exit_code == 1
    assert f"{DATE}  mock-small  -50.000%  0" in result.stdout
    assert "1 differ by more than 1.00%" in result.stdout
