"""
Simulations of the limit engine against servers, under a clock that jumps from event to event.

The engine is the real one: the queue's scripts on a dedicated store, or the same rules in Python. Header fields are
read by the real code, too. Fetchers, travel times and servers are simulated.
"""
