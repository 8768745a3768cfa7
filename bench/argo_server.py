"""A scripted Argo Server in a process of its own, whose workflows end after a moment; prints its address."""

import asyncio

from handler_testkit.argo import ArgoServer, paced

MOMENT = 0.02


async def main() -> None:
    # Not held against the description of the API: that takes longer than the work that is measured.
    server = ArgoServer({"bench": {"text": None}}, check=False)
    server.on_submit = paced(server, lambda: MOMENT, [("Running", {}), ("Succeeded", {})])
    async with server:
        print(server.url, flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
