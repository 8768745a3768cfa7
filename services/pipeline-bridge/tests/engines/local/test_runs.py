import asyncio
import json
import os
import signal
import sys
from pathlib import Path

import pytest

from handler_base.errors import UpstreamRejected, UpstreamUnavailable
from pipeline_bridge.engines import Observation


async def test_a_run_is_followed_from_its_start_to_its_last_line(runs):
    order = runs.shell("echo one; read line < gate; echo two", directory=str(runs.folder.parent))
    os.mkfifo(runs.folder.parent / "gate")
    assert await runs.engine.submit(order) == runs.engine.run_id(order) == "run-1"
    await runs.says(order, "one")
    (runs.folder.parent / "gate").write_text("go\n")
    seen = await runs.seen(order)
    assert seen[-1] == Observation("succeeded", "two")
    assert {one.state for one in seen[:-1]} <= {"running"}


async def test_a_failure_has_its_exit_code_and_last_line(runs):
    assert await runs.end(runs.shell("echo before; echo no such table >&2; exit 3")) == Observation(
        "failed", "exit code 3: no such table"
    )


async def test_a_failure_without_output_has_its_exit_code_alone(runs):
    assert (await runs.end(runs.shell("exit 7"))).message == "exit code 7"


@pytest.mark.parametrize(
    ("number", "says"),
    [("KILL", "was ended by SIGKILL (out of memory?): at work"), ("SEGV", "was ended by SIGSEGV: at work")],
)
async def test_the_end_by_a_signal_is_told_by_its_name(runs, number, says):
    assert await runs.end(runs.shell(f"echo at work; kill -{number} $$")) == Observation("failed", says)


async def test_an_end_by_a_signal_without_a_name_is_told_by_its_number(runs):
    assert (await runs.end(runs.shell("kill -40 $$"))).message == "was ended by signal 40"


async def test_arguments_stay_what_they_are(runs, tmp_path):
    wild = {
        "a": "two words",
        "b": 'it\'s "quoted" $HOME `id` ; rm -rf / | &',
        "c": "--help",
        "d": "line one\nline two\t\\n",
        "e": "",
        "f": "{a} Grüße 🎉 *",
    }
    order = runs.order(
        "python",
        "-c",
        "import json, sys; print(json.dumps(sys.argv[1:]))",
        *(f"{{{name}}}" for name in wild),
        "x={a}={c}",
        parameters=wild,
    )
    end = await runs.end(order)
    assert end.state == "succeeded"
    assert json.loads(runs.output()) == [*wild.values(), "x=two words=--help"]


async def test_python_is_the_interpreter_of_the_bridge(runs):
    end = await runs.end(runs.order("python", "-c", "import sys, msgspec; print(sys.executable)"))
    assert end.message == sys.executable


async def test_a_program_is_found_on_the_path_of_its_pipeline_and_beside_the_interpreter(runs, tmp_path):
    program = tmp_path / "bin" / "greet"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\necho hello\n")
    program.chmod(0o755)
    found = runs.order("greet", environment={"PATH": f"{program.parent}:{os.defpath}"})
    assert (await runs.end(found)).message == "hello"
    relative = runs.order("bin/greet", name="run-2", directory=str(tmp_path))
    assert (await runs.end(relative)).message == "hello"
    beside = runs.order("document-ingestion", "--version", name="run-3", environment={"PATH": "/nowhere"})
    assert (await runs.end(beside)).message.startswith("document-ingestion ")


@pytest.mark.parametrize("program", ["no-such-program", "/no/such/program", "./run", "/etc/passwd"])
async def test_a_program_that_cannot_be_run_is_rejected_and_leaves_nothing_behind(runs, program):
    with pytest.raises(UpstreamRejected, match=f"pipeline test cannot run: there is no program '{program}'"):
        await runs.engine.submit(runs.order(program))
    assert not (runs.folder / "run-1").exists()
    assert (await runs.end(runs.shell("echo repaired"))).message == "repaired"


async def test_a_directory_that_is_not_there_is_rejected(runs):
    with pytest.raises(UpstreamRejected, match="there is no folder /no/such/folder"):
        await runs.engine.submit(runs.shell("true", directory="/no/such/folder"))


async def test_a_program_that_the_kernel_refuses_has_failed_without_having_run(runs, tmp_path):
    program = tmp_path / "broken"
    program.write_bytes(b"\x7fELF" + bytes(100))
    program.chmod(0o755)
    end = await runs.end(runs.order(str(program)))
    assert (end.state, end.started) == ("failed", False)
    assert end.message == f"{program} could not be started in {Path.cwd()}: Exec format error"


async def test_arguments_that_are_too_long_fail_in_words(runs):
    end = await runs.end(runs.order("echo", "{text}", parameters={"text": "x" * 200_000}))
    assert (end.state, end.started) == ("failed", False)
    assert end.message.endswith("Argument list too long")


async def test_a_folder_that_cannot_be_used_is_worth_another_try(make_runs, tmp_path):
    (tmp_path / "file").write_text("")
    runs = make_runs(tmp_path / "file" / "runs")
    with pytest.raises(UpstreamUnavailable, match="cannot be used: Not a directory"):
        await runs.engine.submit(runs.shell("true"))


async def test_a_supervisor_that_cannot_begin_says_why(runs, monkeypatch):
    monkeypatch.setattr("pipeline_bridge.engines.local._WHERE", "/nowhere")
    with pytest.raises(UpstreamUnavailable, match=r"no local run can be begun: .*pipeline_bridge"):
        await runs.engine.submit(runs.shell("echo once"))
    monkeypatch.undo()
    assert (await runs.end(runs.shell("echo once"))).message == "once"


async def test_a_run_of_which_nothing_is_known_is_rejected(runs):
    with pytest.raises(UpstreamRejected, match="no local run run-1: its folder is gone"):
        await runs.seen(runs.shell("true"))


async def test_a_run_is_stopped_in_order(runs):
    order = runs.shell("trap 'echo tidied; exit 0' TERM; echo ready; while :; do sleep 0.01; done")
    await runs.engine.submit(order)
    await runs.says(order, "ready")
    assert await runs.engine.stop(order, "run-1", "cancelled by ada")
    assert (await runs.seen(order))[-1] == Observation("failed", "was stopped: cancelled by ada")
    assert runs.output().endswith("tidied\n")


async def test_a_run_that_does_not_heed_is_killed_after_the_grace_time(make_runs, tmp_path):
    runs = make_runs(tmp_path / "runs", grace=0.1)
    order = runs.shell("trap '' TERM; echo ready; while :; do sleep 0.01; done")
    await runs.engine.submit(order)
    await runs.says(order, "ready")
    assert await runs.engine.stop(order, "", "enough")
    assert (await runs.seen(order))[-1].message == "was stopped: enough"
    await runs.aclose()


async def test_a_run_that_has_ended_cannot_be_stopped(runs):
    order = runs.shell("echo done")
    await runs.end(order)
    assert not await runs.engine.stop(order, "run-1", "late")
    assert (await runs.seen(order)) == [Observation("succeeded", "done")]


async def test_stopping_a_run_that_is_not_there_is_no_problem(runs):
    assert await runs.engine.stop(runs.shell("true"), "", "never mind")


async def test_a_run_that_was_stopped_before_it_began_never_runs(runs, tmp_path):
    order = runs.shell("touch ran", directory=str(tmp_path))
    runs.engine._folder(order.name).create(runs.engine._ordered(order))
    assert await runs.engine.stop(order, "", "changed my mind")
    end = await runs.end(order)
    assert end == Observation("failed", "was stopped before it began: changed my mind", started=False)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("leaves", ["sleep 1000 &", "setsid sleep 1000 &", "env -i setsid sleep 1000 &"])
async def test_what_a_command_started_ends_with_it(runs, system, tmp_path, leaves):
    order = runs.shell(f"{leaves} echo $! > pid; echo ready; wait", directory=str(tmp_path))
    await runs.engine.submit(order)
    await runs.says(order, "ready")
    child = int((tmp_path / "pid").read_text())
    assert system.alive(child)
    await runs.engine.stop(order, "run-1", "enough")
    assert (await runs.seen(order))[-1].state == "failed"
    assert not system.alive(child)


async def test_what_a_command_leaves_behind_is_ended_and_does_not_change_how_it_ended(runs, system, tmp_path):
    end = await runs.end(runs.shell("setsid sleep 1000 & echo $! > pid; echo fine", directory=str(tmp_path)))
    assert end == Observation("succeeded", "fine")
    assert not system.alive(int((tmp_path / "pid").read_text()))


async def test_a_run_has_its_own_session_no_input_and_no_descriptor_of_ours(runs, tmp_path):
    with (tmp_path / "secret").open("w") as file:
        os.set_inheritable(file.fileno(), True)
        end = await runs.end(
            runs.shell("cat; ls /proc/self/fd | tr '\\n' ' '; [ $(ps -o sid= $$) = $$ ] && echo own")
        )
    assert end == Observation("succeeded", "0 1 2 3 own")


async def test_a_run_is_nice_and_new_files_are_as_the_bridge_makes_them(runs, tmp_path):
    end = await runs.end(runs.shell("umask; nice"))
    mask = os.umask(0)
    os.umask(mask)
    assert end.state == "succeeded"
    assert runs.output().split() == [f"{mask:04o}", str(os.nice(0) + 5)]


async def test_what_is_kept_of_a_run_is_for_its_owner_alone(runs):
    await runs.end(runs.shell("echo x"))
    for path in [runs.folder, runs.folder / "run-1", *(runs.folder / "run-1").iterdir()]:
        assert path.stat().st_mode & 0o077 == 0


async def test_a_program_that_writes_to_a_closed_pipe_ends_as_it_does_everywhere(runs):
    end = await runs.end(runs.shell("(while echo y; do :; done; exit 9) | head -1"))
    assert end == Observation("succeeded", "y")


async def test_no_zombies_are_left(runs, system):
    for number in range(5):
        await runs.end(runs.shell("sleep 0 & true", name=f"run-{number}"))
    await system.until(lambda: not runs.engine._children._watched)
    assert not system.zombies()


async def test_a_follower_that_goes_away_leaves_the_run_alone(runs):
    order = runs.shell("echo ready; read line < gate; echo done", directory=str(runs.folder.parent))
    os.mkfifo(runs.folder.parent / "gate")
    await runs.engine.submit(order)
    async with asyncio.TaskGroup() as group:
        follower = group.create_task(runs.seen(order))
        await runs.says(order, "ready")
        follower.cancel()
    (runs.folder.parent / "gate").write_text("go\n")
    assert (await runs.seen(order))[-1].message == "done"


async def test_folders_of_ended_runs_go_after_their_time(make_runs, tmp_path, monkeypatch):
    monkeypatch.setattr("pipeline_bridge.engines.local.TIDY_INTERVAL", 0.0)
    runs = make_runs(tmp_path / "runs", kept=1000.0)
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    waits = runs.shell(f"echo ready; read line < {gate}", name="at-work")
    await runs.engine.submit(waits)
    await runs.end(runs.shell("true", name="old"))
    await runs.end(runs.shell("true", name="new"))
    draft = runs.folder / ".new-lost"
    draft.mkdir()
    other = runs.folder / "not-ours"
    other.mkdir()
    for path in [runs.folder / "old" / "state.json", runs.folder / "at-work" / "state.json", draft, other]:
        os.utime(path, (0, 0))
    await runs.engine.submit(runs.shell("true", name="last"))
    assert {path.name for path in runs.folder.iterdir()} == {"at-work", "new", "last", "not-ours"}
    gate.write_text("go\n")
    assert (await runs.seen(waits))[-1].state == "succeeded"
    await runs.aclose()


def test_it_works_under_uvloop_too(make_runs, tmp_path, system):
    uvloop = pytest.importorskip("uvloop")

    async def go():
        runs = make_runs(tmp_path / "runs")
        order = runs.shell("echo fine")
        end = await runs.end(order)
        await system.until(lambda: not runs.engine._children._watched)
        await runs.aclose()
        return end

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(go()) == Observation("succeeded", "fine")
    assert not system.zombies()


async def test_a_stop_signal_to_the_supervisor_ends_the_run(runs):
    order = runs.shell("echo ready; sleep 1000")
    await runs.engine.submit(order)
    await runs.says(order, "ready")
    os.kill(runs.supervisor(), signal.SIGTERM)
    assert (await runs.seen(order))[-1].message == "was stopped together with the bridge (SIGTERM)"
