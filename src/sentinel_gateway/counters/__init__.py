"""What counts the tokens of texts, for limits and budgets."""
