"""What answers say and mean, which limit instances a request shares, and the limits in process."""
