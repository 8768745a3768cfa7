from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ErrorResponse(_message.Message):
    __slots__ = ("error", "message", "type", "request_id", "retryable")
    ERROR_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    RETRYABLE_FIELD_NUMBER: _ClassVar[int]
    error: bool
    message: str
    type: str
    request_id: str
    retryable: bool
    def __init__(self, error: _Optional[bool] = ..., message: _Optional[str] = ..., type: _Optional[str] = ..., request_id: _Optional[str] = ..., retryable: _Optional[bool] = ...) -> None: ...

class LoginEvent(_message.Message):
    __slots__ = ("user_id", "username", "nickname", "premium", "timestamp")
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    USERNAME_FIELD_NUMBER: _ClassVar[int]
    NICKNAME_FIELD_NUMBER: _ClassVar[int]
    PREMIUM_FIELD_NUMBER: _ClassVar[int]
    TIMESTAMP_FIELD_NUMBER: _ClassVar[int]
    user_id: str
    username: str
    nickname: str
    premium: bool
    timestamp: int
    def __init__(self, user_id: _Optional[str] = ..., username: _Optional[str] = ..., nickname: _Optional[str] = ..., premium: _Optional[bool] = ..., timestamp: _Optional[int] = ...) -> None: ...

class GreetingRequest(_message.Message):
    __slots__ = ("user_id", "username", "nickname", "premium", "request_id", "response_subject")
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    USERNAME_FIELD_NUMBER: _ClassVar[int]
    NICKNAME_FIELD_NUMBER: _ClassVar[int]
    PREMIUM_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    RESPONSE_SUBJECT_FIELD_NUMBER: _ClassVar[int]
    user_id: str
    username: str
    nickname: str
    premium: bool
    request_id: str
    response_subject: str
    def __init__(self, user_id: _Optional[str] = ..., username: _Optional[str] = ..., nickname: _Optional[str] = ..., premium: _Optional[bool] = ..., request_id: _Optional[str] = ..., response_subject: _Optional[str] = ...) -> None: ...

class GreetingResponse(_message.Message):
    __slots__ = ("request_id", "user_id", "greeting")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    GREETING_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    user_id: str
    greeting: str
    def __init__(self, request_id: _Optional[str] = ..., user_id: _Optional[str] = ..., greeting: _Optional[str] = ...) -> None: ...

class DocumentSource(_message.Message):
    __slots__ = ("text", "score", "title", "uri", "document_id")
    TEXT_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    TITLE_FIELD_NUMBER: _ClassVar[int]
    URI_FIELD_NUMBER: _ClassVar[int]
    DOCUMENT_ID_FIELD_NUMBER: _ClassVar[int]
    text: str
    score: float
    title: str
    uri: str
    document_id: str
    def __init__(self, text: _Optional[str] = ..., score: _Optional[float] = ..., title: _Optional[str] = ..., uri: _Optional[str] = ..., document_id: _Optional[str] = ...) -> None: ...

class ChatRequest(_message.Message):
    __slots__ = ("request_id", "user_id", "username", "nickname", "session_id", "message", "query", "system_prompt", "collection", "top_k", "enable_rag", "enable_reranker", "enable_streaming", "enable_tts", "premium", "language", "speaker", "response_subject")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    USERNAME_FIELD_NUMBER: _ClassVar[int]
    NICKNAME_FIELD_NUMBER: _ClassVar[int]
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    QUERY_FIELD_NUMBER: _ClassVar[int]
    SYSTEM_PROMPT_FIELD_NUMBER: _ClassVar[int]
    COLLECTION_FIELD_NUMBER: _ClassVar[int]
    TOP_K_FIELD_NUMBER: _ClassVar[int]
    ENABLE_RAG_FIELD_NUMBER: _ClassVar[int]
    ENABLE_RERANKER_FIELD_NUMBER: _ClassVar[int]
    ENABLE_STREAMING_FIELD_NUMBER: _ClassVar[int]
    ENABLE_TTS_FIELD_NUMBER: _ClassVar[int]
    PREMIUM_FIELD_NUMBER: _ClassVar[int]
    LANGUAGE_FIELD_NUMBER: _ClassVar[int]
    SPEAKER_FIELD_NUMBER: _ClassVar[int]
    RESPONSE_SUBJECT_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    user_id: str
    username: str
    nickname: str
    session_id: str
    message: str
    query: str
    system_prompt: str
    collection: str
    top_k: int
    enable_rag: bool
    enable_reranker: bool
    enable_streaming: bool
    enable_tts: bool
    premium: bool
    language: str
    speaker: str
    response_subject: str
    def __init__(self, request_id: _Optional[str] = ..., user_id: _Optional[str] = ..., username: _Optional[str] = ..., nickname: _Optional[str] = ..., session_id: _Optional[str] = ..., message: _Optional[str] = ..., query: _Optional[str] = ..., system_prompt: _Optional[str] = ..., collection: _Optional[str] = ..., top_k: _Optional[int] = ..., enable_rag: _Optional[bool] = ..., enable_reranker: _Optional[bool] = ..., enable_streaming: _Optional[bool] = ..., enable_tts: _Optional[bool] = ..., premium: _Optional[bool] = ..., language: _Optional[str] = ..., speaker: _Optional[str] = ..., response_subject: _Optional[str] = ...) -> None: ...

class ChatResponse(_message.Message):
    __slots__ = ("request_id", "user_id", "session_id", "response", "sources", "audio", "audio_format", "model", "prompt_tokens", "completion_tokens", "finish_reason", "warnings", "timings")
    class TimingsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    RESPONSE_FIELD_NUMBER: _ClassVar[int]
    SOURCES_FIELD_NUMBER: _ClassVar[int]
    AUDIO_FIELD_NUMBER: _ClassVar[int]
    AUDIO_FORMAT_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    PROMPT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    COMPLETION_TOKENS_FIELD_NUMBER: _ClassVar[int]
    FINISH_REASON_FIELD_NUMBER: _ClassVar[int]
    WARNINGS_FIELD_NUMBER: _ClassVar[int]
    TIMINGS_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    user_id: str
    session_id: str
    response: str
    sources: _containers.RepeatedCompositeFieldContainer[DocumentSource]
    audio: bytes
    audio_format: str
    model: str
    prompt_tokens: int
    completion_tokens: int
    finish_reason: str
    warnings: _containers.RepeatedScalarFieldContainer[str]
    timings: _containers.ScalarMap[str, float]
    def __init__(self, request_id: _Optional[str] = ..., user_id: _Optional[str] = ..., session_id: _Optional[str] = ..., response: _Optional[str] = ..., sources: _Optional[_Iterable[_Union[DocumentSource, _Mapping]]] = ..., audio: _Optional[bytes] = ..., audio_format: _Optional[str] = ..., model: _Optional[str] = ..., prompt_tokens: _Optional[int] = ..., completion_tokens: _Optional[int] = ..., finish_reason: _Optional[str] = ..., warnings: _Optional[_Iterable[str]] = ..., timings: _Optional[_Mapping[str, float]] = ...) -> None: ...

class ChatStreamChunk(_message.Message):
    __slots__ = ("request_id", "attempt", "index", "type", "content", "done", "timestamp", "error")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    INDEX_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    CONTENT_FIELD_NUMBER: _ClassVar[int]
    DONE_FIELD_NUMBER: _ClassVar[int]
    TIMESTAMP_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    attempt: int
    index: int
    type: str
    content: str
    done: bool
    timestamp: float
    error: ErrorResponse
    def __init__(self, request_id: _Optional[str] = ..., attempt: _Optional[int] = ..., index: _Optional[int] = ..., type: _Optional[str] = ..., content: _Optional[str] = ..., done: _Optional[bool] = ..., timestamp: _Optional[float] = ..., error: _Optional[_Union[ErrorResponse, _Mapping]] = ...) -> None: ...

class VoiceRequest(_message.Message):
    __slots__ = ("request_id", "user_id", "session_id", "audio", "format", "sample_rate", "language", "speaker", "premium", "enable_rag", "collection", "response_subject", "stream")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    AUDIO_FIELD_NUMBER: _ClassVar[int]
    FORMAT_FIELD_NUMBER: _ClassVar[int]
    SAMPLE_RATE_FIELD_NUMBER: _ClassVar[int]
    LANGUAGE_FIELD_NUMBER: _ClassVar[int]
    SPEAKER_FIELD_NUMBER: _ClassVar[int]
    PREMIUM_FIELD_NUMBER: _ClassVar[int]
    ENABLE_RAG_FIELD_NUMBER: _ClassVar[int]
    COLLECTION_FIELD_NUMBER: _ClassVar[int]
    RESPONSE_SUBJECT_FIELD_NUMBER: _ClassVar[int]
    STREAM_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    user_id: str
    session_id: str
    audio: bytes
    format: str
    sample_rate: int
    language: str
    speaker: str
    premium: bool
    enable_rag: bool
    collection: str
    response_subject: str
    stream: bool
    def __init__(self, request_id: _Optional[str] = ..., user_id: _Optional[str] = ..., session_id: _Optional[str] = ..., audio: _Optional[bytes] = ..., format: _Optional[str] = ..., sample_rate: _Optional[int] = ..., language: _Optional[str] = ..., speaker: _Optional[str] = ..., premium: _Optional[bool] = ..., enable_rag: _Optional[bool] = ..., collection: _Optional[str] = ..., response_subject: _Optional[str] = ..., stream: _Optional[bool] = ...) -> None: ...

class VoiceResponse(_message.Message):
    __slots__ = ("request_id", "transcription", "response", "audio", "audio_format", "sample_rate", "sources", "warnings", "timings", "user_id", "session_id", "model", "finish_reason", "language", "generation")
    class TimingsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    TRANSCRIPTION_FIELD_NUMBER: _ClassVar[int]
    RESPONSE_FIELD_NUMBER: _ClassVar[int]
    AUDIO_FIELD_NUMBER: _ClassVar[int]
    AUDIO_FORMAT_FIELD_NUMBER: _ClassVar[int]
    SAMPLE_RATE_FIELD_NUMBER: _ClassVar[int]
    SOURCES_FIELD_NUMBER: _ClassVar[int]
    WARNINGS_FIELD_NUMBER: _ClassVar[int]
    TIMINGS_FIELD_NUMBER: _ClassVar[int]
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    FINISH_REASON_FIELD_NUMBER: _ClassVar[int]
    LANGUAGE_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    transcription: str
    response: str
    audio: bytes
    audio_format: str
    sample_rate: int
    sources: _containers.RepeatedCompositeFieldContainer[DocumentSource]
    warnings: _containers.RepeatedScalarFieldContainer[str]
    timings: _containers.ScalarMap[str, float]
    user_id: str
    session_id: str
    model: str
    finish_reason: str
    language: str
    generation: int
    def __init__(self, request_id: _Optional[str] = ..., transcription: _Optional[str] = ..., response: _Optional[str] = ..., audio: _Optional[bytes] = ..., audio_format: _Optional[str] = ..., sample_rate: _Optional[int] = ..., sources: _Optional[_Iterable[_Union[DocumentSource, _Mapping]]] = ..., warnings: _Optional[_Iterable[str]] = ..., timings: _Optional[_Mapping[str, float]] = ..., user_id: _Optional[str] = ..., session_id: _Optional[str] = ..., model: _Optional[str] = ..., finish_reason: _Optional[str] = ..., language: _Optional[str] = ..., generation: _Optional[int] = ...) -> None: ...

class TTSRequest(_message.Message):
    __slots__ = ("request_id", "session_id", "text", "speaker", "language", "speaker_wav", "stream", "format", "sample_rate")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    SPEAKER_FIELD_NUMBER: _ClassVar[int]
    LANGUAGE_FIELD_NUMBER: _ClassVar[int]
    SPEAKER_WAV_FIELD_NUMBER: _ClassVar[int]
    STREAM_FIELD_NUMBER: _ClassVar[int]
    FORMAT_FIELD_NUMBER: _ClassVar[int]
    SAMPLE_RATE_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    session_id: str
    text: str
    speaker: str
    language: str
    speaker_wav: bytes
    stream: bool
    format: str
    sample_rate: int
    def __init__(self, request_id: _Optional[str] = ..., session_id: _Optional[str] = ..., text: _Optional[str] = ..., speaker: _Optional[str] = ..., language: _Optional[str] = ..., speaker_wav: _Optional[bytes] = ..., stream: _Optional[bool] = ..., format: _Optional[str] = ..., sample_rate: _Optional[int] = ...) -> None: ...

class TTSAudioChunk(_message.Message):
    __slots__ = ("session_id", "request_id", "chunk_index", "audio", "format", "sample_rate", "is_last", "total_chunks", "timestamp", "attempt", "sample_offset", "samples", "text", "generation")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    CHUNK_INDEX_FIELD_NUMBER: _ClassVar[int]
    AUDIO_FIELD_NUMBER: _ClassVar[int]
    FORMAT_FIELD_NUMBER: _ClassVar[int]
    SAMPLE_RATE_FIELD_NUMBER: _ClassVar[int]
    IS_LAST_FIELD_NUMBER: _ClassVar[int]
    TOTAL_CHUNKS_FIELD_NUMBER: _ClassVar[int]
    TIMESTAMP_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    SAMPLE_OFFSET_FIELD_NUMBER: _ClassVar[int]
    SAMPLES_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    request_id: str
    chunk_index: int
    audio: bytes
    format: str
    sample_rate: int
    is_last: bool
    total_chunks: int
    timestamp: float
    attempt: int
    sample_offset: int
    samples: int
    text: str
    generation: int
    def __init__(self, session_id: _Optional[str] = ..., request_id: _Optional[str] = ..., chunk_index: _Optional[int] = ..., audio: _Optional[bytes] = ..., format: _Optional[str] = ..., sample_rate: _Optional[int] = ..., is_last: _Optional[bool] = ..., total_chunks: _Optional[int] = ..., timestamp: _Optional[float] = ..., attempt: _Optional[int] = ..., sample_offset: _Optional[int] = ..., samples: _Optional[int] = ..., text: _Optional[str] = ..., generation: _Optional[int] = ...) -> None: ...

class TTSFullResponse(_message.Message):
    __slots__ = ("session_id", "request_id", "audio", "format", "sample_rate", "duration_seconds")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    AUDIO_FIELD_NUMBER: _ClassVar[int]
    FORMAT_FIELD_NUMBER: _ClassVar[int]
    SAMPLE_RATE_FIELD_NUMBER: _ClassVar[int]
    DURATION_SECONDS_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    request_id: str
    audio: bytes
    format: str
    sample_rate: int
    duration_seconds: float
    def __init__(self, session_id: _Optional[str] = ..., request_id: _Optional[str] = ..., audio: _Optional[bytes] = ..., format: _Optional[str] = ..., sample_rate: _Optional[int] = ..., duration_seconds: _Optional[float] = ...) -> None: ...

class TTSStatus(_message.Message):
    __slots__ = ("session_id", "request_id", "status", "message", "timestamp", "error", "generation")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    TIMESTAMP_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    request_id: str
    status: str
    message: str
    timestamp: float
    error: ErrorResponse
    generation: int
    def __init__(self, session_id: _Optional[str] = ..., request_id: _Optional[str] = ..., status: _Optional[str] = ..., message: _Optional[str] = ..., timestamp: _Optional[float] = ..., error: _Optional[_Union[ErrorResponse, _Mapping]] = ..., generation: _Optional[int] = ...) -> None: ...

class TTSVoiceInfo(_message.Message):
    __slots__ = ("name", "language", "custom", "description")
    NAME_FIELD_NUMBER: _ClassVar[int]
    LANGUAGE_FIELD_NUMBER: _ClassVar[int]
    CUSTOM_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    name: str
    language: str
    custom: bool
    description: str
    def __init__(self, name: _Optional[str] = ..., language: _Optional[str] = ..., custom: _Optional[bool] = ..., description: _Optional[str] = ...) -> None: ...

class TTSVoiceListResponse(_message.Message):
    __slots__ = ("voices", "default_voice")
    VOICES_FIELD_NUMBER: _ClassVar[int]
    DEFAULT_VOICE_FIELD_NUMBER: _ClassVar[int]
    voices: _containers.RepeatedCompositeFieldContainer[TTSVoiceInfo]
    default_voice: str
    def __init__(self, voices: _Optional[_Iterable[_Union[TTSVoiceInfo, _Mapping]]] = ..., default_voice: _Optional[str] = ...) -> None: ...

class TTSVoiceRefreshResponse(_message.Message):
    __slots__ = ("count", "added", "removed")
    COUNT_FIELD_NUMBER: _ClassVar[int]
    ADDED_FIELD_NUMBER: _ClassVar[int]
    REMOVED_FIELD_NUMBER: _ClassVar[int]
    count: int
    added: _containers.RepeatedScalarFieldContainer[str]
    removed: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, count: _Optional[int] = ..., added: _Optional[_Iterable[str]] = ..., removed: _Optional[_Iterable[str]] = ...) -> None: ...

class STTStreamMessage(_message.Message):
    __slots__ = ("session_id", "type", "sequence", "audio", "sample_rate", "language", "state", "speaker_id", "user_id", "speaker", "collection", "enable_rag", "enable_assistant", "premium")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    AUDIO_FIELD_NUMBER: _ClassVar[int]
    SAMPLE_RATE_FIELD_NUMBER: _ClassVar[int]
    LANGUAGE_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    SPEAKER_ID_FIELD_NUMBER: _ClassVar[int]
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    SPEAKER_FIELD_NUMBER: _ClassVar[int]
    COLLECTION_FIELD_NUMBER: _ClassVar[int]
    ENABLE_RAG_FIELD_NUMBER: _ClassVar[int]
    ENABLE_ASSISTANT_FIELD_NUMBER: _ClassVar[int]
    PREMIUM_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    type: str
    sequence: int
    audio: bytes
    sample_rate: int
    language: str
    state: str
    speaker_id: str
    user_id: str
    speaker: str
    collection: str
    enable_rag: bool
    enable_assistant: bool
    premium: bool
    def __init__(self, session_id: _Optional[str] = ..., type: _Optional[str] = ..., sequence: _Optional[int] = ..., audio: _Optional[bytes] = ..., sample_rate: _Optional[int] = ..., language: _Optional[str] = ..., state: _Optional[str] = ..., speaker_id: _Optional[str] = ..., user_id: _Optional[str] = ..., speaker: _Optional[str] = ..., collection: _Optional[str] = ..., enable_rag: _Optional[bool] = ..., enable_assistant: _Optional[bool] = ..., premium: _Optional[bool] = ...) -> None: ...

class STTTranscription(_message.Message):
    __slots__ = ("session_id", "sequence", "text", "is_final", "language", "speaker_id", "start_ms", "end_ms", "timestamp", "utterance", "speech_end", "checkpoint", "session_end", "error")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    IS_FINAL_FIELD_NUMBER: _ClassVar[int]
    LANGUAGE_FIELD_NUMBER: _ClassVar[int]
    SPEAKER_ID_FIELD_NUMBER: _ClassVar[int]
    START_MS_FIELD_NUMBER: _ClassVar[int]
    END_MS_FIELD_NUMBER: _ClassVar[int]
    TIMESTAMP_FIELD_NUMBER: _ClassVar[int]
    UTTERANCE_FIELD_NUMBER: _ClassVar[int]
    SPEECH_END_FIELD_NUMBER: _ClassVar[int]
    CHECKPOINT_FIELD_NUMBER: _ClassVar[int]
    SESSION_END_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    sequence: int
    text: str
    is_final: bool
    language: str
    speaker_id: str
    start_ms: int
    end_ms: int
    timestamp: float
    utterance: int
    speech_end: float
    checkpoint: STTCheckpoint
    session_end: bool
    error: ErrorResponse
    def __init__(self, session_id: _Optional[str] = ..., sequence: _Optional[int] = ..., text: _Optional[str] = ..., is_final: _Optional[bool] = ..., language: _Optional[str] = ..., speaker_id: _Optional[str] = ..., start_ms: _Optional[int] = ..., end_ms: _Optional[int] = ..., timestamp: _Optional[float] = ..., utterance: _Optional[int] = ..., speech_end: _Optional[float] = ..., checkpoint: _Optional[_Union[STTCheckpoint, _Mapping]] = ..., session_end: _Optional[bool] = ..., error: _Optional[_Union[ErrorResponse, _Mapping]] = ...) -> None: ...

class STTCheckpoint(_message.Message):
    __slots__ = ("sequence", "sample", "position", "sample_rate")
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    SAMPLE_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    SAMPLE_RATE_FIELD_NUMBER: _ClassVar[int]
    sequence: int
    sample: int
    position: int
    sample_rate: int
    def __init__(self, sequence: _Optional[int] = ..., sample: _Optional[int] = ..., position: _Optional[int] = ..., sample_rate: _Optional[int] = ...) -> None: ...

class STTInterrupt(_message.Message):
    __slots__ = ("session_id", "type", "speaker_id", "timestamp", "start_ms")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    SPEAKER_ID_FIELD_NUMBER: _ClassVar[int]
    TIMESTAMP_FIELD_NUMBER: _ClassVar[int]
    START_MS_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    type: str
    speaker_id: str
    timestamp: float
    start_ms: int
    def __init__(self, session_id: _Optional[str] = ..., type: _Optional[str] = ..., speaker_id: _Optional[str] = ..., timestamp: _Optional[float] = ..., start_ms: _Optional[int] = ...) -> None: ...

class PipelineTrigger(_message.Message):
    __slots__ = ("request_id", "pipeline", "parameters", "user_id")
    class ParametersEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    PIPELINE_FIELD_NUMBER: _ClassVar[int]
    PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    pipeline: str
    parameters: _containers.ScalarMap[str, str]
    user_id: str
    def __init__(self, request_id: _Optional[str] = ..., pipeline: _Optional[str] = ..., parameters: _Optional[_Mapping[str, str]] = ..., user_id: _Optional[str] = ...) -> None: ...

class PipelineStatus(_message.Message):
    __slots__ = ("request_id", "status", "pipeline", "engine", "run_id", "message", "timestamp", "sequence", "error")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    PIPELINE_FIELD_NUMBER: _ClassVar[int]
    ENGINE_FIELD_NUMBER: _ClassVar[int]
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    TIMESTAMP_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    status: str
    pipeline: str
    engine: str
    run_id: str
    message: str
    timestamp: float
    sequence: int
    error: ErrorResponse
    def __init__(self, request_id: _Optional[str] = ..., status: _Optional[str] = ..., pipeline: _Optional[str] = ..., engine: _Optional[str] = ..., run_id: _Optional[str] = ..., message: _Optional[str] = ..., timestamp: _Optional[float] = ..., sequence: _Optional[int] = ..., error: _Optional[_Union[ErrorResponse, _Mapping]] = ...) -> None: ...

class PipelineParameter(_message.Message):
    __slots__ = ("name", "type", "description", "required", "default_value", "allowed")
    NAME_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    REQUIRED_FIELD_NUMBER: _ClassVar[int]
    DEFAULT_VALUE_FIELD_NUMBER: _ClassVar[int]
    ALLOWED_FIELD_NUMBER: _ClassVar[int]
    name: str
    type: str
    description: str
    required: bool
    default_value: str
    allowed: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, name: _Optional[str] = ..., type: _Optional[str] = ..., description: _Optional[str] = ..., required: _Optional[bool] = ..., default_value: _Optional[str] = ..., allowed: _Optional[_Iterable[str]] = ...) -> None: ...

class PipelineInfo(_message.Message):
    __slots__ = ("name", "engine", "description", "parameters")
    NAME_FIELD_NUMBER: _ClassVar[int]
    ENGINE_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    name: str
    engine: str
    description: str
    parameters: _containers.RepeatedCompositeFieldContainer[PipelineParameter]
    def __init__(self, name: _Optional[str] = ..., engine: _Optional[str] = ..., description: _Optional[str] = ..., parameters: _Optional[_Iterable[_Union[PipelineParameter, _Mapping]]] = ...) -> None: ...

class PipelineListResponse(_message.Message):
    __slots__ = ("pipelines",)
    PIPELINES_FIELD_NUMBER: _ClassVar[int]
    pipelines: _containers.RepeatedCompositeFieldContainer[PipelineInfo]
    def __init__(self, pipelines: _Optional[_Iterable[_Union[PipelineInfo, _Mapping]]] = ...) -> None: ...

class PipelineRunListRequest(_message.Message):
    __slots__ = ("pipeline", "status", "limit", "run_request_id")
    PIPELINE_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    RUN_REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    pipeline: str
    status: str
    limit: int
    run_request_id: str
    def __init__(self, pipeline: _Optional[str] = ..., status: _Optional[str] = ..., limit: _Optional[int] = ..., run_request_id: _Optional[str] = ...) -> None: ...

class PipelineRun(_message.Message):
    __slots__ = ("request_id", "pipeline", "engine", "run_id", "status", "message", "user_id", "parameters", "created", "updated")
    class ParametersEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    PIPELINE_FIELD_NUMBER: _ClassVar[int]
    ENGINE_FIELD_NUMBER: _ClassVar[int]
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    CREATED_FIELD_NUMBER: _ClassVar[int]
    UPDATED_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    pipeline: str
    engine: str
    run_id: str
    status: str
    message: str
    user_id: str
    parameters: _containers.ScalarMap[str, str]
    created: float
    updated: float
    def __init__(self, request_id: _Optional[str] = ..., pipeline: _Optional[str] = ..., engine: _Optional[str] = ..., run_id: _Optional[str] = ..., status: _Optional[str] = ..., message: _Optional[str] = ..., user_id: _Optional[str] = ..., parameters: _Optional[_Mapping[str, str]] = ..., created: _Optional[float] = ..., updated: _Optional[float] = ...) -> None: ...

class PipelineRunListResponse(_message.Message):
    __slots__ = ("runs", "total")
    RUNS_FIELD_NUMBER: _ClassVar[int]
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    runs: _containers.RepeatedCompositeFieldContainer[PipelineRun]
    total: int
    def __init__(self, runs: _Optional[_Iterable[_Union[PipelineRun, _Mapping]]] = ..., total: _Optional[int] = ...) -> None: ...

class CancelRequest(_message.Message):
    __slots__ = ("request_id", "session_id", "reason")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    session_id: str
    reason: str
    def __init__(self, request_id: _Optional[str] = ..., session_id: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...
