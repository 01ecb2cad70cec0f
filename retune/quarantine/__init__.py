"""Rows that a run set aside: counted, sampled, followed to where they come from, and validated again."""
