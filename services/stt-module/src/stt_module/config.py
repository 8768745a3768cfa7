"""Settings of stt-module."""

from __future__ import annotations

from typing import Annotated, Literal

from handler_base.clients.speech_to_text import STTSettings
from handler_base.config import Settings, env
from handler_base.http import HttpSettings
from handler_base.messaging.settings import WorkSettings
from handler_base.service import ServiceSettings


class SessionWork(WorkSettings, frozen=True, kw_only=True):
    """A session is one durable message: it takes as long as people talk, and is handed on at once."""

    durable_in_flight: Annotated[
        int, env("MAX_SESSIONS", "DURABLE_IN_FLIGHT", help="sessions at work at once; more wait", ge=1)
    ] = 64
    request_timeout: Annotated[
        float, env("MAX_SESSION_SECONDS", help="seconds that one session may last", ge=1)
    ] = 4 * 3600.0
    ack_wait: Annotated[
        float, env("ACK_WAIT", help="seconds without a heartbeat until another replica takes over", ge=1)
    ] = 5.0
    max_attempts: Annotated[
        int, env("MAX_ATTEMPTS", help="deliveries of a session before it is a dead letter", ge=1)
    ] = 20
    grace: Annotated[
        float, env("SHUTDOWN_GRACE", help="seconds that sessions get on SIGTERM before another replica", ge=0)
    ] = 0.0


class HearingSettings(Settings, frozen=True, kw_only=True):
    """What counts as speech, and where it begins and ends. Times are of audio unless they say otherwise."""

    aggressiveness: Annotated[
        int, env("VAD_AGGRESSIVENESS", help="0 to 3: how readily sound is taken for noise", ge=0, le=3)
    ] = 2
    frame_ms: Annotated[
        Literal[10, 20, 30], env("VAD_FRAME_MS", help="length of what is judged at once: 10, 20 or 30")
    ] = 20
    min_speech_ms: Annotated[int, env("MIN_SPEECH_MS", help="less speech than this is noise", ge=0)] = 160
    end_silence_ms: Annotated[
        int, env("END_SILENCE_MS", help="silence after which somebody has finished", ge=100)
    ] = 500
    speculate_after_ms: Annotated[
        int,
        env(
            "SPECULATE_AFTER_MS", help="silence after which the endpoint is asked already; 0: not ahead", ge=0
        ),
    ] = 200
    max_utterance_seconds: Annotated[
        float, env("MAX_UTTERANCE_SECONDS", help="longer speech is cut, at its last pause", ge=1)
    ] = 30.0
    pre_roll_ms: Annotated[int, env("PRE_ROLL_MS", help="kept of what was before speech", ge=0)] = 300
    partial_interval: Annotated[
        float,
        env("PARTIAL_INTERVAL", help="seconds between transcriptions while somebody speaks; 0: none", ge=0),
    ] = 1.0
    interrupt_min_speech_ms: Annotated[
        int, env("INTERRUPT_MIN_SPEECH_MS", help="speech that interrupts; a cough is shorter", ge=20)
    ] = 300
    reorder_ms: Annotated[
        int, env("REORDER_MS", help="later audio for which a missing chunk is waited for", ge=0)
    ] = 200
    stall_ms: Annotated[
        int,
        env("STALL_MS", help="time without audio that ends an utterance, beyond the next chunk's", ge=100),
    ] = 1000
    end_wait_ms: Annotated[
        int, env("END_WAIT_MS", help="time that chunks get to come after the `end`", ge=0)
    ] = 500
    idle_seconds: Annotated[
        float, env("SESSION_IDLE_SECONDS", help="seconds without a message until a session ends", ge=1)
    ] = 60.0
    max_speakers: Annotated[int, env("MAX_SPEAKERS", help="speakers of a session", ge=1)] = 16
    max_chunk_ms: Annotated[int, env("MAX_CHUNK_MS", help="longest chunk taken", ge=10)] = 10_000


class WritingSettings(Settings, frozen=True, kw_only=True):
    """How the endpoint is asked."""

    tries: Annotated[
        int, env("TRANSCRIPTION_TRIES", help="how often an utterance is offered to the endpoint", ge=1)
    ] = 5
    retry_delay: Annotated[
        float, env("TRANSCRIPTION_RETRY_DELAY", help="seconds before the second try; doubles", ge=0)
    ] = 0.5
    retry_delay_max: Annotated[
        float, env("TRANSCRIPTION_RETRY_DELAY_MAX", help="longest pause between tries, in seconds", ge=0)
    ] = 8.0
    at_once: Annotated[
        int, env("TRANSCRIPTIONS_AT_ONCE", help="utterances of a session at the endpoint at once", ge=1)
    ] = 3
    waiting: Annotated[
        int,
        env(
            "MAX_WAITING", help="utterances of a session that wait; its audio stays in its stream then", ge=1
        ),
    ] = 8


class STTModuleSettings(ServiceSettings, frozen=True, kw_only=True):
    """Everything stt-module is told."""

    work: SessionWork = SessionWork()
    hearing: HearingSettings = HearingSettings()
    writing: WritingSettings = WritingSettings()
    stt: STTSettings = STTSettings()
    http: HttpSettings = HttpSettings()
