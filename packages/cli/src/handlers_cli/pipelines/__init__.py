"""The commands of pipelines: what can be triggered, runs and how they are followed to their end."""
