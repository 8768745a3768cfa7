import asyncio
import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from pipeline_bridge.engines import Observation

COUNT = "echo x >> count; "


def counted(folder) -> int:
    path = folder / "count"
    return path.read_text().count("x") if path.exists() else 0


@pytest.fixture
def gate(tmp_path):
    os.mkfifo(tmp_path / "gate")
    return tmp_path / "gate"


async def test_a_bridge_that_is_killed_leaves_the_run_at_work_and_another_follows_it(runs, bridge, gate):
    script = f"cd {gate.parent}; {COUNT} echo ready; read line < gate; echo $line"
    first = bridge("sh", "-c", script)
    await asyncio.to_thread(first.read_until, "running ready")
    first.kill()
    order = runs.shell(script)
    assert await runs.engine.submit(order) == "run-1"
    await runs.says(order, "ready")
    gate.write_text("the same run\n")
    assert (await runs.seen(order))[-1] == Observation("succeeded", "the same run")
    assert counted(gate.parent) == 1


async def test_a_run_that_ends_while_no_bridge_is_there_is_told_afterwards(runs, bridge, gate, system):
    first = bridge("sh", "-c", f"echo ready; read line < {gate}; exit 5")
    await asyncio.to_thread(first.read_until, "running ready")
    supervisor = runs.supervisor()
    first.kill()
    gate.write_text("go\n")
    await system.until(lambda: not system.alive(supervisor))
    assert await runs.seen(runs.shell("")) == [Observation("failed", "exit code 5: ready")]


async def test_a_run_of_another_bridge_can_be_stopped(runs, bridge, tmp_path):
    other = bridge("sh", "-c", "echo ready; sleep 1000")
    await asyncio.to_thread(other.read_until, "running ready")
    assert await runs.engine.stop(runs.shell(""), "run-1", "by somebody else")
    assert "failed was stopped: by somebody else" in await asyncio.to_thread(other.finish)


async def test_many_bridges_that_start_the_same_order_start_it_once(runs, bridge, tmp_path):
    script = f"cd {tmp_path}; {COUNT} echo done"
    bridges = [bridge("sh", "-c", script, times=10) for _ in range(5)]
    printed = await asyncio.gather(*[asyncio.to_thread(one.finish) for one in bridges])
    assert all(one.count("submitted run-1") == 10 and "succeeded done" in one for one in printed)
    assert counted(tmp_path) == 1


async def test_a_bridge_that_dies_at_any_moment_neither_loses_nor_doubles_a_run(
    runs, bridge, system, tmp_path
):
    for number in range(12):
        name = f"run-{number}"
        folder = tmp_path / name
        folder.mkdir()
        script = f"cd {folder}; {COUNT} echo done"
        first = bridge("sh", "-c", script, name=name)
        # From before its first line of code until after the end of the run.
        await asyncio.to_thread(system.wait, first, 0.15 + 0.02 * number)
        first.kill()
        assert await runs.end(runs.shell(script, name=name)) == Observation("succeeded", "done")
        assert counted(folder) == 1


@pytest.mark.parametrize("call", ["submit", "follow"])
async def test_a_folder_whose_bridge_died_before_the_start_is_begun_by_the_next_call(runs, tmp_path, call):
    order = runs.shell(f"cd {tmp_path}; {COUNT} echo done")
    runs.engine._folder(order.name).create(runs.engine._ordered(order))
    if call == "submit":
        await runs.engine.submit(order)
    assert (await runs.seen(order))[-1] == Observation("succeeded", "done")
    assert counted(tmp_path) == 1


async def test_a_second_supervisor_leaves_the_run_to_the_first(runs, system, gate):
    order = runs.shell(f"cd {gate.parent}; {COUNT} echo ready; read line < gate")
    await runs.engine.submit(order)
    await runs.says(order, "ready")
    first = runs.supervisor()
    folder = runs.engine._folder(order.name)
    second = runs.engine._supervise(folder)
    await system.until(lambda: runs.engine._children.ended(second))
    assert runs.supervisor() == first
    gate.write_text("go\n")
    assert (await runs.seen(order))[-1].state == "succeeded"
    assert counted(gate.parent) == 1


async def test_a_run_whose_supervisor_is_killed_was_cut_off_and_leaves_no_process(runs, system, tmp_path):
    children = "setsid sleep 1000 & echo $! >> pids; sleep 1000 & echo $! >> pids; echo $$ >> pids"
    order = runs.shell(f"cd {tmp_path}; {COUNT} {children}; echo ready; wait")
    await runs.engine.submit(order)
    await runs.says(order, "ready")
    pids = [int(line) for line in (tmp_path / "pids").read_text().split()]
    assert all(system.alive(pid) for pid in pids)
    os.kill(runs.supervisor(), signal.SIGKILL)
    end = (await runs.seen(order))[-1]
    assert (end.state, end.started) == ("failed", True)
    assert end.message.startswith("was cut off, since nothing watched over it any more")
    await system.until(lambda: not any(system.alive(pid) for pid in pids))
    assert await runs.end(order) == end
    assert not await runs.engine.stop(order, "run-1", "too late")
    assert counted(tmp_path) == 1


async def test_the_command_dies_with_its_supervisor_also_where_no_bridge_is_there(runs, bridge, system):
    first = bridge("sh", "-c", "exec sleep 1000")
    await asyncio.to_thread(first.read_until, "running")
    supervisor = runs.supervisor()
    (command,) = [
        pid
        for pid in system.processes()
        if system.alive(pid) and (await asyncio.to_thread(parent, pid)) == supervisor
    ]
    first.kill()
    os.kill(supervisor, signal.SIGKILL)
    await system.until(lambda: not system.alive(command))


def parent(pid) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1].split()[1])
    except OSError:
        return 0


async def test_a_crash_of_the_supervisor_itself_is_told_in_its_own_words(runs):
    order = runs.shell("true")
    folder = runs.engine._folder(order.name)
    folder.create(runs.engine._ordered(order))
    (runs.folder / "run-1" / "order.json").write_text("{}")
    end = await runs.end(order)
    assert (end.state, end.started) == ("failed", False)
    assert "was cut off" in end.message
    assert "RunOrder.__init__() missing" in end.message


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
async def test_what_ends_the_whole_stack_ends_its_runs_in_order(runs, bridge, system, tmp_path, number):
    # Whoever starts the tests may have told them to ignore it, as nohup does, and so would all that they start.
    ours = signal.getsignal(number)
    signal.signal(number, signal.SIG_DFL if number != signal.SIGINT else signal.default_int_handler)
    script = (
        f"cd {tmp_path}; trap 'echo tidied > note; exit 0' TERM; echo ready; while :; do sleep 0.01; done"
    )
    try:
        stack = bridge("sh", "-c", script)
    finally:
        signal.signal(number, ours)
    await asyncio.to_thread(stack.read_until, "running ready")
    supervisor = runs.supervisor()
    system.signal_group(stack, number)
    await system.until(lambda: not system.alive(supervisor))
    end = (await runs.seen(runs.shell("")))[-1]
    assert end == Observation("failed", f"was stopped together with the bridge ({number.name})")
    assert (tmp_path / "note").read_text() == "tidied\n"


async def test_a_second_signal_ends_the_grace_time(runs, bridge, system):
    stack = bridge("sh", "-c", "trap 'echo heard' TERM; echo ready; while :; do sleep 0.01; done")
    await asyncio.to_thread(stack.read_until, "running ready")
    system.signal_group(stack, signal.SIGTERM)
    await runs.says(runs.shell(""), "heard")
    os.kill(runs.supervisor(), signal.SIGTERM)
    async with asyncio.timeout(4.0):  # less than the grace time
        end = (await runs.seen(runs.shell("")))[-1]
    assert end.message == "was stopped together with the bridge (SIGTERM)"


async def test_a_signal_to_the_bridge_alone_leaves_the_run_at_work(runs, bridge, gate):
    first = bridge("sh", "-c", f"echo ready; read line < {gate}; echo done")
    await asyncio.to_thread(first.read_until, "running ready")
    first.process.terminate()
    await asyncio.to_thread(first.finish)
    gate.write_text("go\n")
    assert (await runs.seen(runs.shell("")))[-1] == Observation("succeeded", "done")


async def test_a_run_whose_folder_is_taken_away_is_ended(runs, system):
    order = runs.shell("echo ready; sleep 1000")
    await runs.engine.submit(order)
    await runs.says(order, "ready")
    supervisor = runs.supervisor()
    await asyncio.to_thread(shutil.rmtree, runs.folder / "run-1")
    await system.until(lambda: not system.alive(supervisor))


async def test_as_the_first_process_of_a_container_the_bridge_waits_for_orphans(
    runs, bridge, system, tmp_path
):
    inside = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child")
    if subprocess.run([*inside, "true"], check=False, capture_output=True).returncode:
        pytest.skip("a process namespace cannot be had here")
    # The command kills its supervisor, so that it and its child come to the bridge as orphans.
    script = f"cd {tmp_path}; setsid sleep 1000 & kill -9 $PPID; sleep 1000"
    first = bridge("sh", "-c", script, wrapped=inside)
    printed = await asyncio.to_thread(first.finish)
    assert "failed was cut off" in printed
    assert "zombies []" in printed
