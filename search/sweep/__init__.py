"""L3: the search itself: study, samplers, pruners, executors and the driver between them."""
