"""An embedded stand-in for the Ray Serve endpoints: chat completions, embeddings and reranking on one port."""
