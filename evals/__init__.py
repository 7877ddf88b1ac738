"""How good the answers are: questions with known answers, asked through the real query service, and scored."""
