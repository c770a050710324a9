"""Training a preference model from judgments, and measuring it."""
