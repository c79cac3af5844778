"""What a trial that has ended looks like from inside, as figures."""
