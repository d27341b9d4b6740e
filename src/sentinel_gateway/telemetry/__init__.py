"""What is seen of the gateway: metrics and the log. Adapters of `ports.Events`."""
