"""An embedded stand-in for the Ray Serve endpoints: chat, embeddings, reranking, hearing and speech on one port."""
