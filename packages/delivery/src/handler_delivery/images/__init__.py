"""The images: built, read back, started, weighed, pushed."""
