"""NATS: one connection, typed messages, durable work. Only this package imports nats-py."""

from handler_base.messaging._imports import import_nats_and_messages

import_nats_and_messages()
