"""The study of preference: judgments, annotators, corpus; training models and labelling pairs."""
