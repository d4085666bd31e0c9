"""What stands under the pools: the books, the cache, the dispatchers, and the worker processes."""
