"""The ZeroMQ message bus: peer transport, client gateway, subscriber feed."""
