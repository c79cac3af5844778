"""What a network has to beat, and how it learns at first."""
