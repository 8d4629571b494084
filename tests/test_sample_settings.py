"""The settings of sampling from servers: help, overrides, and what is refused and how."""

import dataclasses
import json
import re
import time

import pytest
import yaml

from data_gen import sample
from data_gen.sample import COMMAND, SampleConfig
from prm.config import load, parse, resolved, run
from prm.errors import ConfigError, GenerationError, RecordError, StoreError
from prm.generation.endpoints import EndpointConfig
from tests.sample_setup import (
    counts,
    problem,
    run_job,
    sums,
    threaded_stub,
    words,
    write_problems,
)

DEAD = "http://127.0.0.1:1/v1"
SECRET = "hunter2-canary"
LIST = '[{url: "http://b:1/v1"}, {url: "http://c:1/v1", concurrency: 3}]'
YAML = {
    "without": {"generator": {"model": "m"}},
    "with": {
        "generator": {
            "model": "m",
            "servers": {
                "endpoints": [
                    {"url": "http://a:1/v1", "weight": 2.0, "api_key_env": "KEY"},
                    {"url": "http://a:2/v1"},
                ],
                "price": "o1",
                "budget": {"tokens": 7},
                "loop_guard": {"min_repeats": 9},
            },
        }
    },
}


def read(tmp_path, name, *overrides):
    path = tmp_path / "sample.yaml"
    path.write_text(yaml.safe_dump(YAML[name]))
    return load(SampleConfig, path, overrides).generator


@pytest.mark.parametrize("name", YAML)
@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("budget.dollars", "1", 1.0),
        ("budget.tokens", "99", 99),
        ("loop_guard.enabled", "false", False),
        ("tries", "3", 3),
        ("price", "own-server", "own-server"),
        ("extra", "{top_k: 40}", {"top_k": 40}),
        ("send_seed", "true", True),
        (
            "endpoints",
            LIST,
            (EndpointConfig("http://b:1/v1"), EndpointConfig("http://c:1/v1", concurrency=3)),
        ),
    ],
)
def test_each_setting_of_the_servers_can_be_given_on_the_command_line(
    name, key, value, expected, tmp_path
):
    before, after = read(tmp_path, name), read(tmp_path, name, f"--generator.servers.{key}", value)
    assert after.model == before.model == "m"
    found = after.servers
    for part in key.split("."):
        found = getattr(found, part)
    assert found == expected
    assert type(found) is type(expected)
    if name == "with":
        # What is not named stays.
        assert after.servers.loop_guard.min_repeats == 9
        assert after.servers.price == ("o1" if key != "price" else "own-server")
        assert key == "endpoints" or after.servers.endpoints == before.servers.endpoints


def test_several_settings_on_the_command_line_hold_together(tmp_path):
    overrides = ("--generator.servers.endpoints", LIST, "--generator.servers.budget.dollars", "2")
    for name in YAML:
        servers = read(tmp_path, name, *overrides).servers
        assert [one.url for one in servers.endpoints] == ["http://b:1/v1", "http://c:1/v1"]
        assert servers.budget.dollars == 2.0


def test_an_endpoint_may_be_its_url_alone(tmp_path):
    urls = ["http://b:1/v1", {"url": "http://c:1/v1", "weight": 2}]
    expected = (EndpointConfig(urls[0]), EndpointConfig("http://c:1/v1", weight=2.0))
    found = read(tmp_path, "without", "--generator.servers.endpoints", json.dumps(urls))
    assert found.servers.endpoints == expected
    assert type(found.servers.endpoints[1].weight) is float
    path = tmp_path / "urls.yaml"
    path.write_text(yaml.safe_dump({"generator": {"servers": {"endpoints": urls}}}))
    config = load(SampleConfig, path)
    assert config.generator.servers.endpoints == expected
    # The settings beside the output load again.
    path.write_text(yaml.safe_dump(resolved(config)))
    assert load(SampleConfig, path) == config


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("http://b:1/v1", "found str"),
        ({"url": "http://b:1/v1"}, "found dict"),
        (3, "found int"),
        (None, "found NoneType"),
        ([["http://b:1/v1"]], "endpoints[0] is list"),
        (["http://b:1/v1", 3], "endpoints[1] is int"),
        ([{"uri": f"http://{SECRET}:1/v1"}], "unknown fields ['uri']; missing fields ['url']"),
        ([{"url": "http://b:1/v1", "api_key": SECRET}], "unknown fields ['api_key']"),
        ([{"url": "http://b:1/v1", "weight": "much"}], "weight should be float, found 'much'"),
    ],
)
@pytest.mark.parametrize("in_file", [True, False])
def test_endpoints_of_another_form_are_told_the_right_one_in_a_line(in_file, given, told, tmp_path):
    path = tmp_path / "sample.yaml"
    path.write_text(
        yaml.safe_dump({"generator": {"servers": {"endpoints": given}}} if in_file else {})
    )
    word = given if isinstance(given, str) else json.dumps(given)
    overrides = () if in_file else ("--generator.servers.endpoints", word)
    with pytest.raises(ConfigError) as caught:
        load(SampleConfig, path, overrides)
    said = str(caught.value)
    assert told in said
    assert 'endpoints should be a list such as ["http://node7:8000/v1"]' in said
    assert "\n" not in said
    assert SECRET not in said


@pytest.mark.parametrize(
    ("field", "setting"),
    [
        *(("model", "generator.model"), ("messages", "prompt"), ("prompt", "prompt")),
        *(("n", "sampling.n"), ("best_of", "sampling.n"), ("max_tokens", "sampling.max_tokens")),
        *(("max_completion_tokens", "sampling.max_tokens"), ("top_p", "sampling.top_p")),
        *(("temperature", "sampling.temperature"), ("stop", "sampling.stop")),
        *(("seed", "servers.send_seed"), ("stream", "servers.loop_guard.enabled")),
        *(("stream_options", "servers.loop_guard"), ("logprobs", "sampling.top_logprobs")),
        *(("top_logprobs", "sampling.top_logprobs"), ("echo", "nothing")),
    ],
)
def test_a_field_that_has_a_setting_is_no_extra(field, setting, tmp_path):
    with pytest.raises(ConfigError, match=f"servers.extra: not {field}; use .*{setting}"):
        read(tmp_path, "with", "--generator.servers.extra", json.dumps({"top_k": 1, field: 1}))


def test_endpoints_of_the_command_line_have_nothing_of_those_in_the_file(tmp_path):
    # Else the key of one server would go to another.
    servers = read(tmp_path, "with", "--generator.servers.endpoints", LIST).servers
    assert {one.api_key_env for one in servers.endpoints} == {""}
    assert {one.weight for one in servers.endpoints} == {1.0}


def help_text(capsys, *argv):
    with pytest.raises(SystemExit) as caught:
        parse(SampleConfig, COMMAND, sample.__doc__, argv)
    assert caught.value.code == 0
    return " ".join(capsys.readouterr().out.split())


def test_help_explains_the_settings(capsys):
    whole = help_text(capsys, "--help")
    assert "python -m data_gen.sample --config configs/quickstart/sample.yaml" in whole
    assert "--refine_rounds REFINE_ROUNDS How often; each round is a record of its own" in whole
    assert "--generator.servers.help Show the help for ServersConfig" in whole
    servers = help_text(capsys, "--generator.servers.help")
    for words_ in (
        "--generator.servers.patience PATIENCE Seconds without any reply until the job gives up",
        "--generator.servers.budget.tokens TOKENS Read and written together; 0 = no limit.",
        "--generator.servers.loop_guard.enabled {true,false} False = no text is ever stopped.",
        'by default the output\'s name and "-requests"',
    ):
        assert words_ in servers
    fields = dataclasses.fields(EndpointConfig)
    assert all(re.search(rf"[ (]{field.name}[,. ]", servers) for field in fields)


@pytest.mark.parametrize(
    ("endpoint", "message"),
    [
        ({"url": "node7:8000/v1"}, "an endpoint's url should look like http://node7:8000/v1"),
        ({"url": ""}, "an endpoint's url should look like http://node7:8000/v1"),
        ({"url": f"http://me:{SECRET}@node7:80/v1"}, "node7:80: a url with a password"),
        ({"url": "http://n/v1", "weight": 0}, "n: weight 0.0: should be above 0"),
        ({"url": "http://n/v1", "wait": 0}, "EndpointConfig has unknown fields ['wait']"),
        ({"weight": 2.0}, "endpoints[0]: EndpointConfig has missing fields ['url']"),
    ],
)
@pytest.mark.parametrize("way", ["file", "command line"])
def test_a_wrong_endpoint_ends_the_job_with_a_message(endpoint, message, way, tmp_path, capsys):
    servers = {"endpoints": [endpoint]}
    path = tmp_path / "sample.yaml"
    path.write_text(yaml.safe_dump({"generator": {"servers": servers}}))
    argv = ["--generator.servers", json.dumps(servers)]
    with pytest.raises(SystemExit) as caught:
        sample.main(["--config", str(path)] if way == "file" else argv)
    assert caught.value.code == 2
    errors = capsys.readouterr().err
    assert errors.startswith("python -m data_gen.sample: wrong settings: ")
    assert message in errors
    assert SECRET not in errors


@pytest.fixture
def problems(tmp_path):
    return sums(tmp_path / "problems", 2)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"strategies": {"best_of_all": 1}}, r"'best_of_all'[\s\S]*plan_first: understand"),
        ({"strategies": {}}, "at least one strategy"),
        ({"refine": "find_and_fix"}, "refine_rounds 0: give both, or neither"),
        ({"refine_rounds": 1}, "refine_rounds 1: give both, or neither"),
        ({"servers": {"endpoints": []}}, "servers.endpoints is empty; give at least one"),
        ({"servers": {"price": "gold"}}, "price 'gold' is unknown; there are .*own-server"),
        ({"servers": {"budget": {"dollars": 1}}}, "every price is 0: set the price"),
        ({"servers": {"endpoints": [{"url": DEAD}] * 2}}, "127.0.0.1:1.*each once"),
        (
            {"servers": {"endpoints": [{"url": DEAD, "api_key_env": "NO_SUCH_KEY"}]}},
            "127.0.0.1:1: the environment variable NO_SUCH_KEY has no key",
        ),
        (
            {"servers": {"endpoints": [{"url": DEAD, "api_key_file": "/no/such/file"}]}},
            "127.0.0.1:1: no key in the file /no/such/file",
        ),
    ],
)
def test_settings_that_contradict_each_other_are_refused(settings, message, problems, tmp_path):
    with pytest.raises(ConfigError, match=message):
        sample.main(words(problems, tmp_path / "out", DEAD, **settings))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"problems_per_batch": 0}, "problems_per_batch is 0, should be 1 or more"),
        ({"sampling": {"n": 0}}, "sampling.n is 0, should be 1 or more"),
        ({"sampling": {"max_tokens": 0}}, "sampling.max_tokens is 0, should be 1 or more"),
        ({"answer_pattern": "^Answer: (.+$"}, "answer_pattern '^Answer: (.+$' is no regular expr"),
        ({"answer_pattern": "Answer"}, "answer_pattern 'Answer' has no group"),
    ],
)
def test_settings_that_would_make_nothing_are_refused_before_anything(
    settings, message, problems, tmp_path, capsys
):
    with pytest.raises(SystemExit) as caught:
        sample.main(words(problems, tmp_path / "out", DEAD, **settings))
    assert caught.value.code == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_problem_that_nothing_can_judge_is_refused_before_anything_is_asked(tmp_path):
    odd = dataclasses.replace(problem(1), verifier="sympy")
    store = write_problems(tmp_path / "problems", [problem(0), odd])
    with pytest.raises(ConfigError, match="problem 'sum/1': verifier 'sympy' is unknown; there"):
        sample.main(words(store, tmp_path / "out", DEAD))
    assert not (tmp_path / "out").exists()


def test_without_a_word_on_it_no_text_is_stopped_at_a_blank_line(tmp_path):
    path = tmp_path / "sample.yaml"
    path.write_text("sampling: {n: 2}\n")
    assert load(SampleConfig, path).sampling.stop == ()


def test_after_wrong_settings_the_right_ones_go_on_in_the_same_folder(problems, tmp_path):
    out = tmp_path / "out"
    keyless = {"endpoints": [{"url": DEAD, "api_key_env": "NO_SUCH_KEY"}]}
    with pytest.raises(ConfigError):
        sample.main(words(problems, out, servers=keyless))
    with threaded_stub(answer="arithmetic") as stub:
        run_job(problems, out, stub)
    assert counts(out) == (8, 8, {})


def test_an_endpoint_that_is_not_there_is_named(problems, tmp_path):
    begun = time.monotonic()
    with pytest.raises(GenerationError, match=r"servers.patience.*127\.0\.0\.1:1: connection: "):
        sample.main(words(problems, tmp_path / "out", DEAD, servers={"patience": 0.2}))
    assert time.monotonic() - begun < 5


def test_a_wrong_model_is_named_with_those_that_there_are(problems, tmp_path):
    with threaded_stub(model="qwq") as stub:
        with pytest.raises(GenerationError, match=r"127\.0\.0\.1:\d+: .*'stub'.*but qwq"):
            sample.main(words(problems, tmp_path / "out", stub.url))
        assert stub.counts["requests"] == 0


def test_a_wrong_key_ends_the_job_and_is_not_shown(problems, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("OUR_KEY", SECRET)
    with threaded_stub(api_key="another") as stub:
        command = words(
            problems,
            tmp_path / "out",
            servers={"endpoints": [{"url": stub.url, "api_key_env": "OUR_KEY"}]},
        )
        with pytest.raises(SystemExit) as caught:
            run(lambda: sample.main(command), COMMAND)
    assert caught.value.code == 1
    output = capsys.readouterr()
    assert "refused: HTTP 401" in output.err
    assert SECRET not in output.err + output.out
    written = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert SECRET.encode() not in b"".join(written)


def test_no_problems_no_requests(tmp_path, capsys):
    empty = write_problems(tmp_path / "empty", [])
    with threaded_stub() as stub:
        sample.main(words(empty, tmp_path / "out", stub.url))
        assert stub.counts["requests"] == 0
    assert counts(tmp_path / "out") == (0, 0, {})
    assert "sample: in 0 = out 0 + skipped 0" in capsys.readouterr().out


def test_a_problem_that_occurs_twice_is_refused_before_anything_is_asked(problems, tmp_path):
    [store] = problems.glob("*.jsonl")
    twice = tmp_path / "twice.jsonl"
    twice.write_bytes(store.read_bytes() * 2)
    with threaded_stub() as stub:
        with pytest.raises(RecordError, match="'sum/0' occurs twice"):
            sample.main(words(twice, tmp_path / "out", stub.url))
        assert stub.counts["requests"] == 0


def test_a_missing_store_of_problems_is_named(tmp_path):
    with pytest.raises(StoreError, match="nowhere: no records here"):
        sample.main(words(tmp_path / "nowhere", tmp_path / "out", DEAD))
