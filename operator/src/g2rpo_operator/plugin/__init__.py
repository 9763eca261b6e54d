"""`kubectl g2rpo`: jobs for people at a terminal. Nothing else of the operator imports it."""
