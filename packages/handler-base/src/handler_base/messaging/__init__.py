"""NATS: one connection, typed messages, durable work. Only this package imports nats-py."""
