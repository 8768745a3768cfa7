import json

import pytest

from pipeline_bridge.engines import Observation


async def test_memory_over_the_limit_is_refused_to_a_command(runs):
    end = await runs.end(runs.order("python", "-c", "x = bytearray(512 << 20)", memory_mb=256))
    assert end == Observation("failed", "exit code 1: MemoryError")


async def test_memory_within_the_limit_is_granted(runs):
    end = await runs.end(runs.order("python", "-c", "print(len(bytearray(64 << 20)))", memory_mb=256))
    assert end == Observation("succeeded", str(64 << 20))


async def test_cpu_time_over_the_limit_ends_a_command(runs):
    end = await runs.end(runs.shell("echo at work; while :; do :; done", cpu_seconds=1))
    assert end == Observation("failed", "ran into its limit of 1 s CPU time: at work")


async def test_what_takes_too_long_is_ended_by_its_supervisor_too(runs):
    end = await runs.end(runs.shell("echo at work; sleep 1000", timeout=0.3))
    assert end == Observation("failed", "took longer than 0.3 s")


async def test_no_core_is_dumped(runs):
    assert (await runs.end(runs.shell("ulimit -c"))).message == "0"


async def test_neither_secrets_nor_what_is_the_bridges_reach_a_command(runs, monkeypatch):
    kept_back = {
        "NATS_URL": "nats://nats:4222",
        "NATS_PASSWORD": "1",
        "NATS_NKEY_SEED_FILE": "1",
        "ARGO_TOKEN": "1",
        "ARGO_ANYTHING": "1",
        "KUBEFLOW_HOST": "1",
        "HEALTH_PORT": "8080",
        "LOG_LEVEL": "debug",
        "LOCAL_RUNS": "/runs",
        "PIPELINES_FILE": "/etc/pipelines",
        "OPENAI_API_KEY": "1",
        "AWS_SECRET_ACCESS_KEY": "1",
        "GITEA_TOKEN": "1",
        "db_password": "1",
        "DATABASE_URL": "postgres://ada:secret@db/ada",
    }
    passed_on = {
        "EMBEDDINGS_URL": "http://embeddings",
        "TOKENIZERS_PARALLELISM": "false",
        "KEYBOARD": "de",
        "HTTPS_PROXY": "http://ada:secret@proxy",
        "LINK": "http://host:80/a@b",
        "GREETING": "two words = one\nline",
    }
    for name, value in (kept_back | passed_on).items():
        monkeypatch.setenv(name, value)
    order = runs.order(
        "python",
        "-c",
        "import json, os; print(json.dumps(dict(os.environ)))",
        environment={"GREETING": "hello", "WANTED_TOKEN": "given on purpose"},
    )
    assert (await runs.end(order)).state == "succeeded"
    found = json.loads(runs.output())
    assert not set(kept_back) & set(found)
    assert found.items() >= (passed_on | {"GREETING": "hello", "WANTED_TOKEN": "given on purpose"}).items()
    assert found["PIPELINE_NAME"] == "test"
    assert found["PIPELINE_REQUEST_ID"] == "request-run-1"
    assert found["PIPELINE_RUN"] == str(runs.folder / "run-1")


@pytest.mark.parametrize("value", [b"caf\xe9", "☕".encode()])
async def test_an_environment_arrives_byte_by_byte(runs, monkeypatch, value):
    monkeypatch.setenv("DRINK", value.decode(errors="surrogateescape"))
    end = await runs.end(runs.shell("printf '%s' \"$DRINK\" | od -An -tx1 | tr -d ' '"))
    assert end.message == value.hex()
