"""What reads without running: one page as the engine sees it, a forecast, a report of the limits."""
