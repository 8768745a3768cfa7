"""What a conversation needs beside the model: history, retrieval, prompt, speech."""
