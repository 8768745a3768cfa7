"""A scripted Argo Server in a process of its own, whose workflows end after a moment; prints its address."""

import asyncio

from handler_testkit.argo import ArgoServer, Workflow

MOMENT = 0.02


async def main() -> None:
    def advance(workflow: Workflow) -> None:
        loop = asyncio.get_running_loop()
        loop.call_later(MOMENT, server.move, workflow.name, "Running")
        loop.call_later(2 * MOMENT, server.move, workflow.name, "Succeeded")

    # Not held against the description of the API: that takes longer than the work that is measured.
    server = ArgoServer({"bench": {"text": None}}, on_submit=advance, check=False)
    async with server:
        print(server.url, flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
