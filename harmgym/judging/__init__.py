"""From the end of an episode to a verdict, read from the machine."""
