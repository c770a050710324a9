"""Other people's frameworks, each thin and in its own conventions."""
