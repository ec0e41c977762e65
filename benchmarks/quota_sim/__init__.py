"""
The limits engine against simulated servers, under a clock that jumps from event to event.

The engine is the real one: the queue's scripts on a store of their own, or the same in Python. So are the readings of
the answers' header fields. Fetchers, ways and servers are simulated.
"""
