"""What a training looks like from inside: figures per layer, where NaN comes from, and what it says in plain words."""
