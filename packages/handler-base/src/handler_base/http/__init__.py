"""HTTP: one pool of connections, deadlines, retries, errors in words, server-sent events.

    pool = HttpPool(settings)
    llm = pool.endpoint("llm", "http://127.0.0.1:8000/llm", timeout=30, setting="LLM_URL")
    answer = await llm.post_json("/v1/chat/completions", request, Answer)
    async with llm.stream("POST", "/v1/chat/completions", content=body) as response:
        async for event in response.events():
            ...
    await pool.aclose()

Only this room speaks HTTP. It loads its engine at the first call, follows no redirects, keeps no cookies, asks
for no compression (which would hold back tokens), and takes proxies from the environment.
"""

from handler_base.http._mapping import Redirect
from handler_base.http.endpoint import Endpoint, Response
from handler_base.http.pool import HttpPool
from handler_base.http.retry import Repeat
from handler_base.http.settings import HttpSettings
from handler_base.http.sse import Event, EventParser
from handler_base.http.streamed import StreamedResponse

__all__ = [
    "Endpoint",
    "Event",
    "EventParser",
    "HttpPool",
    "HttpSettings",
    "Redirect",
    "Repeat",
    "Response",
    "StreamedResponse",
]
