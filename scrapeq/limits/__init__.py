"""Rate limits: which instances a request shares, what they grant, and what responses report about them."""
