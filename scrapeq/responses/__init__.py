"""What the response of a server says about limits, waits and outcomes."""
