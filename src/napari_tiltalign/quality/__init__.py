"""How good is an alignment? Answers that do not depend on the method."""
