"""Settings of tts-module."""

from __future__ import annotations

from typing import Annotated

from handler_base.clients.text_to_speech import TTSSettings
from handler_base.config import Settings, env
from handler_base.conversation.pieces import SpeechSettings
from handler_base.conversation.synthesis import SynthesisSettings
from handler_base.http import HttpSettings
from handler_base.messaging.settings import WorkSettings
from handler_base.service import ServiceSettings


class SpeakSettings(Settings, frozen=True, kw_only=True):
    """What is accepted, and in which pieces audio goes out."""

    max_text_chars: Annotated[
        int, env("MAX_TEXT_CHARS", help="longest text accepted, in characters", ge=1)
    ] = 8_000
    max_sample_bytes: Annotated[
        int, env("MAX_SPEAKER_WAV_BYTES", help="largest sample of a voice to clone, in bytes", ge=44)
    ] = 4 * 1024 * 1024
    sessions: Annotated[
        int, env("TTS_SESSIONS", help="sessions that are spoken for at once; more wait their turn", ge=1)
    ] = 16
    first_chunk_ms: Annotated[
        int, env("TTS_FIRST_CHUNK_MS", help="shortest first chunk of a stream; 0: whatever comes", ge=0)
    ] = 40
    chunk_ms: Annotated[
        int, env("TTS_CHUNK_MS", help="length of the chunks after it, in milliseconds", ge=10, le=10_000)
    ] = 200


class VoicesSettings(Settings, frozen=True, kw_only=True):
    """Which voices there are."""

    built_in: Annotated[
        tuple[str, ...],
        env("TTS_VOICES", help="voices of the endpoint; unset: those it lists, or any if it lists none"),
    ] = ()
    folder: Annotated[str, env("VOICES_DIR", help="folder with a folder for each custom voice")] = ""
    rescan: Annotated[
        float, env("VOICES_RESCAN", help="seconds between two looks at the voices; 0: only when asked", ge=0)
    ] = 60.0


class TTSModuleSettings(ServiceSettings, frozen=True, kw_only=True):
    """Everything tts-module is told."""

    # Who waits for a voice does not wait long: another replica takes over soon, and a failure is soon final. A request
    # that waits for its session's turn takes a slot, but no work.
    work: WorkSettings = WorkSettings(
        ack_wait=5, durable_in_flight=64, max_attempts=5, request_timeout=300, retry_delay=0.5
    )
    speak: SpeakSettings = SpeakSettings()
    voices: VoicesSettings = VoicesSettings()
    tts: TTSSettings = TTSSettings()
    synthesis: SynthesisSettings = SynthesisSettings()
    speech: SpeechSettings = SpeechSettings()
    http: HttpSettings = HttpSettings()
