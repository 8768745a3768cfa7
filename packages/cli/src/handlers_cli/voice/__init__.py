"""The voice commands: say, transcribe, talk, voices."""
