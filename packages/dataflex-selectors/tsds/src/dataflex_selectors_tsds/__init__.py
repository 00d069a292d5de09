"""The selector ``tsds``: the cheapest way to spread over the pool what the eval set asks for."""
